"""The compiler: from a graph of exact integers to the memories' contents for one accelerator.

`compile` is the whole way.  `channel_order` moves channels of as many planes side by side, `placement` finds
room for every tensor, and `node_commands` tells the engine what to do for each node, in passes that `digits`
and `planes` split weights into.  `weights` and `memories` pack that into words, `limits` refuses what does
not fit, `schedule` knows the cycles.  `fitting` asks the other way: which accelerator does a network need?
"""
