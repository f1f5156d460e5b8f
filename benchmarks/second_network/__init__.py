"""A second network, made on this machine, whose labelled flows judge the encoders that never saw it.

Data flows one way: `hosts` (who is there) -> `gateway` (packets, seen as a sniffer sees them) ->
`flows` (65 features each) -> a Parquet file. `clients` and `attacks` say what the hosts do.
"""
