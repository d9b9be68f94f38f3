"""What one would write instead of Reelhaul: a module a peer, each run as a process of its own.

    python -m benchmarks.peers.NAME BASE_URL MONGO_URL PAGES_FILE [--concurrency N] [--rate R] ...

They know nothing of Reelhaul, run in an environment of their own (requirements-peers.lock), store the same
documents, and print one JSON object of counts.
"""
