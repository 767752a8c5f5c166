package search

import (
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestToldPlace compares events in which the record of the new name is cut off behind it: where that name is looked for
// must not be where the old one is looked for from.
func TestToldPlace(t *testing.T) {
	t.Parallel()
	c := &toldRun{bin: need.Stock(t, "ausearch"), counts: map[string]int{}}
	call := stamped("SYSCALL", strings.Replace(exampleCall, "syscall=257", "syscall=82", 1))
	for name, log := range map[string][]string{
		"a parent before it": {
			call, stamped("CWD", `cwd="/tmp"`), stamped("PATH", `item=0 name="/tmp" inode=1 nametype=DELETE`), stamped("PATH", `item=1 name="/tmp" inode=1 nametype=PARENT`),
			stamped("PATH", `item=2 name="p" inode=2 mode=060660 nametype=PARENT`), stamped("PATH", `item=3 name="b"`), stamped("PATH", `item=4 name="c" inode=3 mode=0100644 nametype=NORMAL`),
		},
		"nothing of it known": {
			call, stamped("CWD", `cwd="/tmp"`), stamped("PATH", `item=0 name="/tmp" inode=1 nametype=PARENT`), stamped("PATH", `item=1 name="/tmp" inode=1 nametype=PARENT`),
			stamped("PATH", `item=2 name="a"`), stamped("PATH", `item=3 name="b"`), stamped("PATH", `item=4 name="c" inode=3 nametype=CREATE`),
		},
	} {
		c.all(t, name, writeLog(t, strings.Join(log, "\n")+"\n"), toldFormats)
	}
	c.report(t)
}
