package harness

import (
	"bytes"
	"os"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestRecord makes a recording of the real kernel through the stock auditd. With
// AUDITFLEET_RECORD=DIR it leaves it there: that is how testdata was made.
func TestRecord(t *testing.T) {
	if testing.Short() {
		t.Skip("records from the kernel")
	}
	need.Stock(t, "auditd")
	need.Stock(t, "auditctl")
	need.Kernel(t)
	bins := workOnly(t)
	const rounds = 1
	keep := os.Getenv("AUDITFLEET_RECORD")
	for _, format := range []string{"RAW", "ENRICHED"} {
		text, err := Record(t.TempDir(), bins, format, rounds)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"type=SYSCALL", "type=EXECVE", "type=PATH", "type=SOCKADDR", "type=PROCTITLE", `key="exec"`, `key="denied"`, `key="identity"`, "type=USER_START"} {
			if !bytes.Contains(text, []byte(want)) {
				t.Errorf("%s: nothing of %s recorded in %d bytes", format, want, len(text))
			}
		}
		if enriched := bytes.IndexByte(text, 0x1d) >= 0; enriched != (format == "ENRICHED") {
			t.Errorf("%s: enriched tails: %v", format, enriched)
		}
		if keep != "" {
			if err := os.WriteFile(keep+"/real-"+format+".log", text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func workOnly(t *testing.T) *Binaries {
	t.Helper()
	dir := t.TempDir()
	root, err := ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := goBuild(root, dir, false, "./integration/cmd/work"); err != nil {
		t.Fatal(err)
	}
	return &Binaries{Work: dir + "/work"}
}
