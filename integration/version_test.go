package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// versionOf returns what deploy/version.sh says in root.
func versionOf(t *testing.T, root, what string, env ...string) string {
	t.Helper()
	cmd := exec.Command("sh", filepath.Join(root, "deploy/version.sh"), what)
	cmd.Env = append(os.Environ(), append([]string{"SOURCE_DATE_EPOCH="}, env...)...)
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "nothing says") {
		t.Fatalf("%s: %v: %s", what, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A tarball of git archive knows what it is: as it is filled in, or not.
func TestTarballKnowsItsVersion(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"deploy/version.sh", "deploy/revision", "CHANGELOG.md"} {
		text, err := os.ReadFile(filepath.Join(repoRoot(t), name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "deploy/revision" && !strings.HasPrefix(string(text), "$Format:%H %ct %(describe") {
			t.Skip("these sources are a tarball themselves")
		}
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(revision string, want map[string]string) {
		t.Helper()
		if revision != "" {
			if err := os.WriteFile(filepath.Join(root, "deploy/revision"), []byte(revision), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for what, want := range want {
			if got := versionOf(t, root, what); !strings.HasPrefix(got, want) || want == "" && got != "" {
				t.Errorf("%q: %s is %q, not %q", revision, what, got, want)
			}
		}
	}
	commit := strings.Repeat("0123456789", 4)
	expect("", map[string]string{"version": "unknown", "commit": "", "date": "", "package": "version.sh: nothing says"})
	expect(commit+" 1795984283 v0.2.0\n", map[string]string{"version": "v0.2.0", "commit": commit, "date": "2026-11-29T20:31:23Z", "package": "0.2.0"})
	expect(commit+" 1795984283 v0.2.0-3-g0123456\n", map[string]string{"version": "v0.2.0-3-g0123456", "package": "0."})
	expect(commit+" 1795984283 \n", map[string]string{"version": "0123456", "package": "0."})
	if got := versionOf(t, root, "package"); !strings.HasSuffix(got, "+git20261129203123.0123456") {
		t.Errorf("a package of no release is %q", got)
	}
	if got := versionOf(t, root, "date", "SOURCE_DATE_EPOCH=1"); got != "1970-01-01T00:00:01Z" {
		t.Errorf("with SOURCE_DATE_EPOCH the date is %s", got)
	}
}
