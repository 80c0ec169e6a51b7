"""``edgekp doctor``: what is wrong with a data set, what it costs, and how to mend it."""
