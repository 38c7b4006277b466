"""A small EC2 and Walrus on loopback: the default cloud, and a strict judge of whoever speaks to clouds.

It does a server's work by itself: it shares no code with the bundler and the clients that it judges.
"""
