"""The backups that an incremental one builds on, as far as the catalogue knows them."""

from mover.dma.catalogue import Catalogue
from mover.dma.results import Job


def chain_below(catalogue: Catalogue, job: Job) -> list[Job] | None:
    """The backups whose recover comes before that of `job`, the full one first; none for a full one.

    By BASE_DATE where the job has one, else as servers choose a base: the latest of a lower level that others may be
    based on; a set of subtrees goes on with the sets of the same name and with nothing else. What another DMA has
    backed up in between is not in the catalogue.

    Returns:
        None: the catalogue does not have all of them.

    Raises:
        CatalogueError: it cannot be read.
    """
    earlier = [
        (each, dict(catalogue.env(each.job)))
        for each in catalogue.jobs()
        if each.job < job.job
        and each.status == "successful"
        and (each.data_server, each.butype, each.filesystem) == (job.data_server, job.butype, job.filesystem)
    ]
    env = dict(catalogue.env(job.job))
    name = _set_name(env)
    earlier = [(each, its) for each, its in earlier if _set_name(its) == name]
    chain: list[Job] = []
    while job.level:
        base = None
        while earlier and base is None:
            each, its = earlier.pop()
            if _is_base(each, its, job, env):
                base = each, its
        if base is None:
            return None
        job, env = base
        chain.insert(0, job)
    return chain


def chain_text(catalogue: Catalogue, job: Job) -> str:
    """What who recovers all of an incremental backup has to know; empty for a full one. Raises CatalogueError."""
    if not job.level:
        return ""
    what = f"job {job.job} is of level {job.level} and holds what had changed"
    chain = chain_below(catalogue, job)
    if chain is None:
        return f"{what}; the catalogue does not have all the backups that it builds on"
    jobs = ", then ".join(f"job {each.job}" for each in chain)
    return f"{what}: {jobs} must have been recovered to the same destination before"


def _is_base(base: Job, its_env: dict[bytes, bytes], job: Job, env: dict[bytes, bytes]) -> bool:
    if _is_by_date(env):
        return its_env.get(b"DUMP_DATE") == env[b"BASE_DATE"]
    if base.level is None or job.level is None or base.level >= job.level or _is_by_date(its_env):
        return False
    return its_env.get(b"UPDATE", b"y")[:1].lower() not in {b"n", b"f"}


def _set_name(env: dict[bytes, bytes]) -> bytes:
    """Of a backup of several subtrees: its dump dates are its own. Empty for any other."""
    return env.get(b"DMP_NAME", b"") if env.get(b"MULTI_SUBTREE_NAMES") else b""


def _is_by_date(env: dict[bytes, bytes]) -> bool:
    return env.get(b"BASE_DATE", b"-1") != b"-1"
