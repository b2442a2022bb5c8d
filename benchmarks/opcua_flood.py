"""One flooding OPC UA client: `opcua_flood ENDPOINT SITE_JSON` reads every point as fast as the server answers.

Says "connected", then reads until a line comes on standard input, then says how many values it has read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path

from asyncua import Client, ua

from gateway.published import read_site

CHUNK = 500


async def flood(endpoint: str, site_json: Path) -> int:
    logging.getLogger("asyncua").setLevel(logging.ERROR)  # it remarks on the session time-out that the server grants
    site = read_site(site_json)
    loop = asyncio.get_running_loop()
    ended = asyncio.ensure_future(loop.run_in_executor(None, sys.stdin.readline))
    count = 0
    async with Client(endpoint) as client:
        namespace = await client.get_namespace_index(site.opcua.namespace if site.opcua is not None else "")
        names = [point.name for point in site.points]
        ids = [ua.NodeId(name, namespace) for name in names]
        print("connected", flush=True)
        while not ended.done():
            for start in range(0, len(ids), CHUNK):
                request = ua.ReadParameters()
                request.NodesToRead = [
                    ua.ReadValueId(NodeId=one, AttributeId=ua.AttributeIds.Value) for one in ids[start : start + CHUNK]
                ]
                count += sum(answer.StatusCode is not None for answer in await client.uaclient.read(request))
    return count


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        print(asyncio.run(flood(sys.argv[1], Path(sys.argv[2]))), flush=True)
