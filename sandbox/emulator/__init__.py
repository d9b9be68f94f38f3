"""An emulated TMDB with a catalogue, a rate limit, faults and a log of all requests.

May import: nothing of worker or producer, so that it shares no code with what it tests.
"""
