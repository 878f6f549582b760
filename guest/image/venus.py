"""Vulkan programs in the test guest: each function takes a running VM (see vm.py) and gives what came out."""
import re

from host import Failure

# Only venus: the guest has lavapipe too, and a program that falls back to it would seem to work.
ONLY_VENUS = {"VK_DRIVER_FILES": "/usr/share/vulkan/icd.d/virtio_icd.json"}
VKMARK = ["vkmark", "--winsys", "headless", "--size", "800x600"]
SCENES = ["vertex", "texture", "shading", "effect2d", "desktop", "cube", "clear"]
VK_COMPUTE, VK_PICTURE, VK_MAPS = "/vgd/guest/vk-compute", "/vgd/guest/vk-picture", "/vgd/guest/vk-maps"
CL_COMPUTE = "/vgd/guest/cl-compute"


def devices(machine, timeout_s=60):
    """What `vulkaninfo --summary` says of the venus devices: a list of {"deviceName": ..., "driverID": ...}."""
    result = machine.run(["vulkaninfo", "--summary"], env=ONLY_VENUS, timeout_s=timeout_s)
    found = []
    for line in result.text.partition("Devices:")[2].splitlines():
        if re.match(r"GPU\d+:", line):
            found.append({})
        elif "=" in line and found:
            key, _, value = line.partition("=")
            found[-1][key.strip()] = value.strip()
    if result.status != 0 or not found:
        raise Failure("vulkaninfo in the guest: %r" % result)
    return found


def on_zink(device):
    """The environment that makes OpenGL and OpenCL programs use zink on this device (of devices()).

    zink takes a device that is a processor (lavapipe on the host) only if it is told that software is wanted.
    """
    software = device.get("deviceType") == "PHYSICAL_DEVICE_TYPE_CPU"
    return {**ONLY_VENUS, "MESA_LOADER_DRIVER_OVERRIDE": "zink", "GALLIUM_DRIVER": "zink", "RUSTICL_ENABLE": "zink",
            **({"LIBGL_ALWAYS_SOFTWARE": "1"} if software else {})}


def vkmark(machine, scenes, seconds=None, timeout_s=None):
    """Runs vkmark scenes ("vertex" or "vertex:device-local=false") off screen; gives {scene: frames per second}."""
    scenes = [s + ":duration=%g" % seconds if seconds else s for s in scenes]
    argv = VKMARK + [w for s in scenes for w in ("-b", s)]
    result = machine.run(argv, env=ONLY_VENUS, timeout_s=timeout_s or 60 + 30 * len(scenes))
    found = re.findall(r"^\[(\w+)\].*?: FPS: (\d+)", result.text, re.M)
    if result.status != 0 or len(found) != len(scenes) or "Virtio-GPU Venus" not in result.text:
        raise Failure("vkmark in the guest: %r" % result)
    return {name: int(fps) for name, fps in found}


def start(machine, argv):
    """Starts a Vulkan program in the guest; gives its Command."""
    return machine.popen(argv, env=ONLY_VENUS)


def maps(machine):
    """How many maps the guest's driver has in the host-visible window."""
    script = ("mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug; "
              "cat /sys/kernel/debug/dri/*/virtio-gpu-host-visible-mm")
    text = machine.run(["sh", "-c", script], check=True).text
    # The folder of one card is there under more than one name.
    return len(set(re.findall(r"^(0x\w+-0x\w+: \d+): used", text, re.M)))
