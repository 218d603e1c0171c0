#!/usr/bin/env python3
"""layers.py on small made-up trees: what is planted is found, and what is allowed is not."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import layers

HOUSE = {
    "include/pqrouter/pqrouter.h": "#include <stddef.h>\n",
    "lib/meson.build": "files('base/mem.c', 'plan/pick.c', 'wire/world.c', 'run/call.c')\n",
    "lib/base/mem.h": "",
    "lib/base/mem.c": '#include "mem.h"\nvoid *f(void) { return malloc(1); }\n',
    "lib/plan/pick.h": '#include "../base/mem.h"\n',
    "lib/plan/pick.c": '#include "pick.h"\n',
    "lib/wire/world.h": "",
    "lib/wire/world.c": '#include "world.h"\n#include <libpq-fe.h>\nlong f(void) { return time(0); }\n',
    "lib/run/call.h": "#include <pqrouter/pqrouter.h>\nstruct pg_conn;\n",
    "lib/run/call.c": '#include "call.h"\n#include "../plan/pick.h"\n#include "../wire/world.h"\n',
    "cli/meson.build": "executable('pqrouter', 'main.c')\n",
    "cli/main.c": "#include <pqrouter/pqrouter.h>\n",
    "test/meson.build": "unit = ['pick']\nlive = {'reads': []}\nfiles('lib/words.c')\n",
    "test/lib/words.h": "",
    "test/lib/words.c": '#include "words.h"\n#include "../../lib/plan/pick.h"\n',
    "test/unit/pick.c": '#include "../../lib/plan/pick.h"\n',
    "test/live/reads.c": '#include "words.h"\n#include <libpq-fe.h>\n',
}


class Layers(unittest.TestCase):
    def found(self, changes):
        """What is found in the house after the changes."""
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**HOUSE, **changes}.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                    f.write(text)
            return layers.check(root)[0]

    def one(self, changes, *words):
        """Exactly one violation is found, and it says all the words."""
        found = self.found(changes)
        self.assertEqual(len(found), 1, found)
        for word in words:
            self.assertIn(word, found[0])

    def test_a_clean_house_is_clean(self):
        self.assertEqual(self.found({}), [])

    def test_an_include_that_points_up_is_found(self):
        self.one({"lib/plan/pick.c": '#include "pick.h"\n\n#include "../wire/world.h"\n'},
                 "lib/plan/pick.c:3", "plan is below wire")
        self.one({"lib/base/mem.h": '# include "../plan/lsn.h"\n', "lib/plan/lsn.h": ""},
                 "base is below plan")

    def test_an_include_in_a_comment_is_none(self):
        self.assertEqual(self.found({
            "lib/plan/pick.c": '#include "pick.h"\n/* as in\n#include "../run/call.h"\n*/\n'
                               '// #include "../run/call.h"\n'}), [])

    def test_an_include_of_nothing_is_found(self):
        self.one({"lib/plan/pick.c": '#include "pik.h"\n'}, "pick.c:1", "not there")

    def test_a_public_header_includes_no_inner_one(self):
        self.one({"include/pqrouter/pqrouter.h": '#include "../../lib/base/mem.h"\n'},
                 "only public headers")

    def test_the_library_includes_nothing_of_the_tests(self):
        self.one({"lib/run/call.c": '#include "call.h"\n#include "../../test/lib/words.h"\n'},
                 "only itself")

    def test_the_command_sees_only_public_headers(self):
        self.one({"cli/main.c": '#include "../lib/base/mem.h"\n'}, "cli sees only")
        self.one({"cli/main.c": "#include <base/mem.h>\n"}, "cli sees only")

    def test_a_live_test_sees_only_public_headers_also_by_way_of_test_lib(self):
        self.one({"test/live/reads.c": '#include "../../lib/plan/pick.h"\n'},
                 "test/live sees only", "lib/plan/pick.h")
        found = self.found({"test/lib/words.h": '#include "../../lib/wire/world.h"\n'})
        self.assertEqual(len(found), 1, found)
        self.assertIn("test/live/reads.c: sees lib/wire/world.h by way", found[0])

    def test_a_circle_is_found_also_through_sources_and_further_modules(self):
        self.one({"lib/plan/lsn.h": '#include "lag.h"\n', "lib/plan/lag.h": '#include "lsn.h"\n'},
                 "circle", "lib/plan/lag, lib/plan/lsn")
        self.one({"lib/run/call.c": '#include "call.h"\n#include "fan.h"\n',
                  "lib/run/fan.h": '#include "txn.h"\n',
                  "lib/run/txn.h": '#include "call.h"\n'},
                 "circle", "lib/run/call, lib/run/fan, lib/run/txn")

    def test_libpq_and_hiredis_belong_to_wire(self):
        self.one({"lib/run/call.c": '#include "call.h"\n#include <libpq-fe.h>\n'}, "only wire")
        self.one({"lib/plan/pick.c": '#include "pick.h"\n#include <hiredis/hiredis.h>\n'}, "only wire")
        self.one({"cli/main.c": "#include <libpq-fe.h>\n"}, "only wire")
        self.one({"include/pqrouter/pqrouter.h": "#include <libpq-fe.h>\n"}, "only wire")

    def test_memory_belongs_to_mem(self):
        for call in ["malloc(1)", "calloc(1, 1)", "realloc(p, 1)", "free (p)", "strdup(p)",
                     "x ? free(p) : 0"]:
            self.one({"lib/run/call.c": f'#include "call.h"\nint f(void) {{ {call}; }}\n'},
                     "lib/run/call.c:2", "base/mem.c")

    def test_the_clock_and_chance_belong_to_world(self):
        for call in ["clock_gettime(CLOCK_MONOTONIC, &t)", "time(NULL)", "random()",
                     "getrandom(p, 1, 0)", "gettimeofday(&t, 0)"]:
            self.one({"lib/plan/pick.c": f'#include "pick.h"\nint f(void) {{ {call}; }}\n'},
                     "lib/plan/pick.c:2", "world.c")

    def test_names_alike_texts_and_members_are_no_calls(self):
        self.assertEqual(self.found({
            "lib/run/call.c": '#include "call.h"\n/* malloc(1) */\nint f(void)\n{\n'
                              '    say("free(p), time(0)");\n    pqi_mem_free(p);\n'
                              "    ops->free(p);\n    ops.time(p);\n    connect_time(p);\n}\n"}), [])

    def test_a_forgotten_source_is_found(self):
        self.one({"lib/run/fan.c": ""}, "lib/run/fan.c", "lib/meson.build")
        self.one({"test/unit/slot.c": ""}, "test/unit/slot.c", "test/meson.build")
        self.one({"test/live/writes.c": ""}, "test/live/writes.c")
        self.one({"test/live/command.py": ""}, "test/live/command.py")
        self.one({"cli/cmd_env.c": ""}, "cli/cmd_env.c", "cli/meson.build")
        self.one({"lib/meson.build": HOUSE["lib/meson.build"].replace("'run/call.c'", "# 'run/call.c'")},
                 "lib/run/call.c")


if __name__ == "__main__":
    unittest.main()
