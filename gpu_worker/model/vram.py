"""Whether a load has a chance with the VRAM that is free. Pure."""


def lack(free: int | None, needed: int) -> str | None:
    """Return the sentence that says why a load is hopeless, or None where it has a chance.

    Both are bytes. `free` is None where no driver tells: then the load is tried.
    """
    if free is None or free >= needed:
        return None
    return f"The model needs {needed / 2**20:,.0f} MiB of VRAM and {free / 2**20:,.0f} MiB are free."
