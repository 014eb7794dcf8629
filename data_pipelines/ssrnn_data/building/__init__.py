"""From sources to shards on all cores: units of work, what each leaves in the work folder, and how they come together.

corpus.py is the way in; nothing here is public.
"""
