"""Measurements of Reelhaul's promises on this machine, against the emulated TMDB."""
