"""A result folder as one page to look at and as pictures. Knows finished files alone, no network and no job in memory.

Everything is read from the folder again, so a report can be made at any time and says what the files say.
"""
