"""The fault matrix: what a row is, how it is run and shown."""
import contextlib
import dataclasses
import sys
import time
import traceback

import room as rooms
import traffic

ROWS = {}


@dataclasses.dataclass
class Row:
    name: str
    what: str
    holds: str
    run: object
    quick: bool
    spoils: bool
    config: str


def row(name, what, holds, quick=False, spoils=False, config=""):
    """`what` is done, `holds` must hold. quick: in every test run. spoils: the cluster is not used after."""
    def keep(function):
        ROWS[name] = Row(name, what, holds, function, quick, spoils, config)
        return function
    return keep


class Skipped(Exception):
    """This machine cannot do it; the reason."""


class GaveUp(Exception):
    """What was waited for did not come; it is said already, and the rest of the row has no sense."""


class Round:
    """One run of a row: what it checked and measured."""

    def __init__(self, room, options):
        self.room, self.options, self.red, self.figures = room, options, [], []

    def hold(self, what, holds, shown=""):
        print(f"  {'ok    ' if holds else 'RED   '}{what}{'' if holds else f': {shown}'}", flush=True)
        if not holds:
            self.red.append(what)

    def figure(self, text):
        print(f"        {text}", flush=True)
        self.figures.append(text)

    def until(self, what, condition, seconds=rooms.LIMIT):
        took = self.room.until(condition, seconds)
        self.hold(what, took is not None, f"not within {seconds} s")
        if took is None:
            raise GaveUp
        return took

    def traffic(self, *nodes):
        return traffic.Traffic(self.room, nodes or (1, 2), rooms.NAME)

    def unharmed(self, seen, lost_with=(), silent=()):
        """No connection failed, none that stood broke but to `lost_with`, all lookups but on `silent` were answered."""
        failed = seen.failed("connect") + seen.failed("reply")
        self.hold("every new connection was answered", not failed, failed[:5])
        broken = seen.failed("kept", but=lost_with)
        self.hold("no connection that stood broke" + (f", but to node {lost_with}" if lost_with else ""), not broken, broken[:5])
        hearing = [c.node for c in seen.clients if c.node not in silent]
        unanswered = seen.failed("lookup", hearing)
        self.hold("every lookup was answered" + (f", but on node {silent}" if silent else ""), not unanswered, unanswered[:5])
        trouble = seen.events("client")
        self.hold("the clients ran", not trouble, trouble[:5])
        self.count(seen)

    def count(self, seen):
        tried = len(seen.events("connect")) + len(seen.events("reply"))
        failed = len(seen.failed("connect")) + len(seen.failed("reply"))
        lookups, lost = len(seen.events("lookup")), len(seen.failed("lookup"))
        broken = len(seen.failed("kept"))
        self.figure(f"{failed} of {tried} connections failed (longest {seen.longest():.1f} s), {lost} of {lookups} lookups, "
                    f"{broken} standing ones broke")


class Matrix:
    def __init__(self, build, options):
        self.build, self.options, self.room, self.config, self.done = build, options, None, None, []

    def prepare(self, wanted):
        if self.room is not None and self.config == wanted.config:
            return
        self.close()
        self.config = wanted.config
        self.room = rooms.Room(self.build, config=wanted.config)
        took, wrong = self.room.sound()
        if took is None:
            raise RuntimeError(f"the cluster did not become sound: {wrong}")

    def close(self):
        if self.room is not None:
            self.room.close()
            self.room = None

    def run(self, wanted):
        print(f"\n{wanted.name}: {wanted.what}", flush=True)
        begun, skipped, one = time.monotonic(), "", None
        try:
            self.prepare(wanted)
            one = Round(self.room, self.options)
            wanted.run(one)
            if not wanted.spoils:
                took, wrong = self.room.sound()
                one.hold("the cluster is whole again", took is not None, wrong)
                if took is not None:
                    one.figures.append(f"whole {took:.1f} s after")
            reports = self.room.reports()
            one.hold("no sanitizer reported anything", not reports, reports[:5])
        except Skipped as reason:
            skipped = str(reason)
            print(f"  SKIPPED: {skipped}", flush=True)
        except GaveUp:
            pass
        except Exception:
            one = one or Round(None, self.options)
            one.hold("the row could be run", False, traceback.format_exc())
        if wanted.spoils or (one and one.red):
            if one and one.red and self.room:
                self.show_logs()
            self.close()
        self.done.append((wanted, one, skipped, time.monotonic() - begun))

    def show_logs(self):
        for node in self.room.all_nodes():
            with contextlib.suppress(Exception):
                print(f"  --- node {node}\n" + "".join(f"  {line}\n" for line in self.room("logs", node).splitlines()[-25:]))

    def table(self, out=sys.stdout):
        """The table as docs have it: Markdown."""
        print("\n| row | fault | what must hold | measured | |\n|---|---|---|---|---|", file=out)
        for wanted, one, skipped, _ in self.done:
            verdict = "skipped" if skipped else "**red**: " + "; ".join(one.red) if one.red else "holds"
            measured = skipped or "; ".join(one.figures) if one or skipped else ""
            print(f"| {wanted.name} | {wanted.what} | {wanted.holds} | {measured} | {verdict} |", file=out)
        red = sum(bool(one and one.red) for _, one, _, _ in self.done)
        print(f"\n{len(self.done)} rows, {red} red, {sum(bool(s) for _, _, s, _ in self.done)} skipped, "
              f"{sum(t for *_, t in self.done):.0f} s", file=out, flush=True)
        return red
