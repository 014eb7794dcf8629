"""Files that lie elsewhere: which URLs are read, how stores answer, what is tried again, and the disk cache of a node.

urls and retry are pure; stores speak to fsspec; files is what others use; cache knows no store.
"""
