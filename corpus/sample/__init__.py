"""The embedded SYNTHETIC sample: a grammar and a seeded generator of posts in Reddit's dump format, with gold."""
