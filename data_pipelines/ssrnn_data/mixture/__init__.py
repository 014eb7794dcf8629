"""Several corpora as one stream: weights that may change over tokens seen, exact shares, lanes that keep their source.

shares, lanes and position are pure; sources reads indexes; stream is the only one with torch; preview draws.
"""
