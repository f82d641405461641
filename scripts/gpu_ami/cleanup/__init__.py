"""Removes AMIs that nothing needs: collect, decide, plan, show, check again, act, journal, restore; sweep leftovers."""
