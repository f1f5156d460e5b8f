"""Have we seen this before? Days, behaviours and attacks like a given one; reads only."""
