"""What Reelhaul promises, measured on this machine against the emulated TMDB."""
