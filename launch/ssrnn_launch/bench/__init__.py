"""`ssrnn bench launch`: what a launch costs over a plain loop, how soon a run starts and recovers."""
