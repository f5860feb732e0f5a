"""Chips by name: published figures, and the descriptions from which XLA's GPU compiler knows them.

To add a GPU: a description file in this folder, under the name by which users ask for it.  To add a TPU: a row in
`tpus.py`.
"""
