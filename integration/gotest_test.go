package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGotest runs gotest.sh on made-up packages: what failed at first only does not fail the run and is named, what
// fails always, and what is no test's failure, does.
func TestGotest(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles packages")
	}
	t.Parallel()
	script, err := filepath.Abs("gotest.sh")
	if err != nil {
		t.Fatal(err)
	}
	const good = "func TestGood(t *testing.T) { t.Log(`fine`) }\n"
	once := func(name string) string {
		return "func " + name + "(t *testing.T) { if _, err := os.Stat(`" + name + "`); err != nil { os.WriteFile(`" + name + "`, nil, 0o600); t.Run(`part`, func(t *testing.T) { t.Error(`too busy`) }) } }\n"
	}
	const always = "func TestAlways(t *testing.T) { t.Error(`wrong`) }\n"
	// As internal/need tells.
	tells := func(variable, line string) string {
		return "func TestTells(t *testing.T) { f, err := os.OpenFile(os.Getenv(`" + variable + "`), os.O_WRONLY|os.O_APPEND, 0); if err != nil { t.Fatal(err) }; f.WriteString(`" + line + "`+\"\\n\"); f.Close() }\n"
	}
	for _, tt := range []struct {
		name, text string
		code       int
		flaky      string // the file's lines
		says, not  string
	}{
		{"all pass", good, 0, "", "ok  \tm/a\t", "again, alone"},
		{"a skip", tells("AUDITFLEET_SKIPPED", "TestA/b\tno moon"), 0, "", "skipped 1: no moon (TestA)\ntook 0 min", "TestTells"},
		{"a wait", tells("AUDITFLEET_SAY", "TestB waits for a lock"), 0, "", "TestB waits for a lock\n", "skipped"},
		{"once", good + once("TestOnce"), 0, "FLAKY: m/a TestOnce failed at first and passed alone\n", "ok  \tm/a\t", "--- FAIL: TestGood"},
		{"always", good + always, 1, "", "again, alone: m/a TestAlways", "FLAKY"},
		{"once and always", once("TestOnce") + always, 1, "FLAKY: m/a TestOnce failed at first and passed alone\n", "FAIL\tm/a\t", "TestAlways failed at first"},
		{"seven", once("TestA") + once("TestB") + once("TestC") + once("TestD") + once("TestE") + once("TestF") + once("TestG"), 1, "", "more than 6 tests failed", "again, alone"},
		{"a panic", once("TestOnce") + "func TestPanic(t *testing.T) { panic(`oops`) }\n", 1, "", "not run again: m/a panic: oops", "again, alone"},
		{"too long", "func TestLong(t *testing.T) { select {} }\n", 1, "", "not run again: m/a panic: test timed out", "again, alone"},
		{"no build", good + "func TestBad(t *testing.T) { undefined() }\n", 1, "", "m/a [build failed]", "again, alone"},
		{"a leak", good + "func TestMain(m *testing.M) { m.Run(); println(`a leak`); os.Exit(1) }\n", 1, "", "not run again: m/a FAIL\tm/a", "again, alone"},
		{"an exit", good + "func TestExit(t *testing.T) { os.Exit(3) }\n", 1, "", "not run again: m/a FAIL\tm/a", "again, alone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range map[string]string{
				"go.mod": "module m\n\ngo 1.24\n", "b/b_test.go": "package b\n\nimport \"testing\"\n\n" + good,
				"a/a_test.go": "package a\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nvar _ = os.Exit\n\n" + tt.text,
			} {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				writeFile(t, path, text)
			}
			timeout := "-timeout=1m"
			if tt.name == "too long" {
				timeout = "-timeout=1s"
			}
			cmd := exec.Command("sh", script, "-count=1", "-vet=off", timeout, "./...")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "FLAKY="+filepath.Join(dir, "flaky"), "GOFLAGS=")
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.says) || strings.Contains(string(out), tt.not) || !strings.Contains(string(out), "ok  \tm/b\t") {
				t.Errorf("exit code %d, want %d, and %q, not %q:\n%s", code, tt.code, tt.says, tt.not, out)
			}
			if text, err := os.ReadFile(filepath.Join(dir, "flaky")); err != nil && !errors.Is(err, os.ErrNotExist) || string(text) != tt.flaky {
				t.Errorf("named are %q (%v), want %q", text, err, tt.flaky)
			}
		})
	}
}
