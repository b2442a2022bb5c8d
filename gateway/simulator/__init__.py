"""The simulated plant: battery cells, converters, DC bus and supply as physics, behind real wires.

It is a process of its own and knows nothing of the rest of the gateway: it reads the site file by itself and encodes
every register and text by hand, so that a wrong device map, sign or scale shows. Currents are positive in discharge
(from the battery to the bus, from the bus to the grid).
"""
