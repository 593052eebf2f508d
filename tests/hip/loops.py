"""Innermost loops with matrix instructions, in the machine code of a kernel."""

import re

matrix_clocks = {"32x32x8": 32, "4x4x4": 8}  # of v_mfma_f32: AMD's matrix instruction calculator
mca_clocks = 4      # clocks in one cycle of llvm-mca: a wave of 64 on 16 lanes


class Flow:
    """Basic blocks of a function, edges between them, and which dominate which."""

    def __init__(self, body):
        self.code, self.names, last = [[]], {}, None
        for line in (line.split(";")[0].strip() for line in body.splitlines()):
            if line.endswith(":") or (last and "branch" in last):
                self.code.append([])
            last = line
            if line.endswith(":"):
                self.names[line[:-1]] = len(self.code) - 1
            elif line and not line.startswith("."):
                self.code[-1].append(line)
        self.next = [self.successors(block) for block in range(len(self.code))]
        self.previous = [[] for _ in self.code]
        for block, after in enumerate(self.next):
            for other in after:
                self.previous[other].append(block)
        everything = set(range(len(self.code)))
        self.dominators = [{0}] + [everything] * (len(self.code) - 1)
        changed = True
        while changed:
            changed = False
            for block in range(1, len(self.code)):
                before = [self.dominators[other] for other in self.previous[block]]
                found = (set.intersection(*before) if before else set()) | {block}
                changed |= found != self.dominators[block]
                self.dominators[block] = found

    def successors(self, block):
        code = self.code[block]
        to = re.match(r"s_c?branch\w* (\S+)$", code[-1]) if code else None
        ends = bool(code) and re.match(r"s_(branch|endpgm)", code[-1])
        falls = [] if ends or block + 1 == len(self.code) else [block + 1]
        return falls + ([self.names[to.group(1)]] if to else [])

    def matrix_loops(self):
        """{header: blocks} of the loops that hold matrix instructions, and no other such loop."""
        loops = {}
        for latch, nexts in enumerate(self.next):
            for header in set(nexts) & self.dominators[latch]:
                blocks, todo = {header}, [latch]
                while todo:
                    block = todo.pop()
                    if block not in blocks:
                        blocks.add(block)
                        todo += self.previous[block]
                loops[header] = loops.get(header, set()) | blocks
        loops = {header: blocks for header, blocks in loops.items()
                 if any("v_mfma" in line for block in blocks for line in self.code[block])}
        return {header: blocks for header, blocks in loops.items()
                if not any(other != header and other in blocks for other in loops)}

    def steady_turn(self, header, blocks):
        """The way through a loop with all matrix instructions and the fewest others. Lanes that a mask leaves out wait:
        their code counts."""
        best = {}  # of each block: (fewer matrix instructions than none, others, code) up to the header, or None

        def way(block):
            if block not in best:
                code = self.code[block]
                nexts = self.next[block][:1] if code and "cbranch_execz" in code[-1] else self.next[block]
                ways = [way(other) for other in nexts if other in blocks and other not in self.dominators[block]]
                ways = [rest for rest in ways if rest] + [(0, 0, []) for other in nexts if other == header]
                matrix, others, _ = matrix_share(straight(code))
                fewer, more, rest = min(ways, key=lambda one: one[:2]) if ways else (0, 0, None)
                best[block] = (fewer - matrix, more + others, code + rest) if ways else None
            return best[block]

        return way(header)[2]


def turns(body):
    """(the steady turn, all code) of each innermost loop with matrix instructions."""
    flow = Flow(body)
    for header, blocks in sorted(flow.matrix_loops().items()):
        yield (straight(flow.steady_turn(header, blocks)),
               straight([line for block in sorted(blocks) for line in flow.code[block]]))


def straight(code):
    """Without what does not issue to a unit of its own."""
    return [line for line in code if not re.match(r"s_(c?branch|waitcnt|barrier|nop)", line)]


def matrix_share(code):
    """Matrix instructions, others, and the share of issue slots that the former take. One of 4 x 4 x 4 adds up weights:
    it counts among the others, with all its slots."""
    small = [line for line in code if "v_mfma" in line and "4x4x4" in line]
    matrix = [line for line in code if "v_mfma" in line and "4x4x4" not in line]
    slots = len(matrix) * matrix_clocks["32x32x8"] / mca_clocks
    others = len(code) - len(matrix) - len(small)
    taken = others + len(small) * matrix_clocks["4x4x4"] / mca_clocks
    return len(matrix), others + len(small), slots / (slots + taken) if code else 0
