"""Removes AMIs that nothing needs: query, decide, plan, show, check again, act, restore; sweeps incomplete builds."""
