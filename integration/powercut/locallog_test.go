//go:build power

package powercut

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLocalLog: of what was not synced, sectors may be zeros wherever they begin; of a rotated log, none may.
func TestLocalLog(t *testing.T) {
	line := func(n string) string {
		return "node=" + auditing + " type=USER msg=audit(1.000:1): " + numbered + n + " x\n"
	}
	zeros := strings.Repeat("\x00", 512)
	for name, c := range map[string]struct {
		newest, rotated string
		ok, holed       bool
	}{
		"whole":              {line("1"), line("0"), true, false},
		"begins with a hole": {zeros + "x\n" + line("1"), line("0"), true, true},
		"a hole in a number": {line("1") + line("2"+zeros), line("0"), true, true},
		"torn":               {line("1") + "node=", line("0"), true, false},
		"what was rotated":   {line("1"), zeros + "x\n" + line("0"), false, false},
		"another's":          {"x\n" + line("1"), line("0"), false, false},
	} {
		file := filepath.Join(t.TempDir(), "audit.log")
		for path, text := range map[string]string{file: c.newest, file + ".1": c.rotated} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		seen, holed, err := localLog(file)
		if ok := err == nil; ok != c.ok || ok && (holed != c.holed || len(seen) != 2) {
			t.Errorf("%s: %v, holed %v, %v", name, seen, holed, err)
		}
	}
}
