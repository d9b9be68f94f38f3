"""Stand-ins for the outside world: the TMDB emulator, embedded servers, and the demo that wires them."""
