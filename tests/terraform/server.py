"""The emulator of AWS that tests/terraform.sh applies to: moto's server, with what it does otherwise than AWS put right.

usage: server.py PORT

moto keeps the network interface of a machine that ended attached to it, and then refuses to detach it; AWS frees an interface
that is not deleted together with its machine, which is what the voters' addresses rely on. The version is pinned in
tests/terraform.sh, since this reaches into it.
"""

import copy
import sys

from moto.ec2.models.instances import Instance
from moto.server import main

terminate = Instance.terminate


def terminate_and_free(self):
    state = terminate(self)
    for index, interface in list(self.nics.items()):
        if not interface.delete_on_termination:
            # A machine that ended is still told of with the address that it had.
            told = copy.copy(interface)
            self.detach_eni(interface)
            self.nics[index] = told
    return state


Instance.terminate = terminate_and_free
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
