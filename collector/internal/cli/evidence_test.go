package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

// Words that choose events are taken and kept, wherever they are asked; those that say how to print are refused.
func TestEvidenceWords(t *testing.T) {
	t.Parallel()
	good := func(line string, want ...string) {
		t.Helper()
		a, err := parseEvidence(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			return
		}
		if d := cmp.Diff(want, a.asked.Words); d != "" || a.out == "" {
			t.Errorf("%s: %s", line, d)
		}
	}
	good("-k passwd -ts 11/20/2026 10:00:00 -n web1 --out d", "-k", "passwd", "-ts", "11/20/2026", "10:00:00", "-n", "web1")
	good("--store /s --out=d -m USER_LOGIN --field acct=root --from 192.0.2.0/24 --mismatch", "-m", "USER_LOGIN", "--field", "acct=root", "--from", "192.0.2.0/24", "--mismatch")
	good("--server hub:6060 --tls-ca a --tls-cert b --tls-key c --out d -sv no", "-sv", "no")
	if a, err := parseEvidence([]string{"--out", "d"}); err != nil || len(a.asked.Words) != 0 {
		t.Errorf("all events: %v, %v", a, err)
	}
	for line, want := range map[string]string{
		"-k x":                                "--out DIR is wanted",
		"-k x --out":                          "a value is wanted",
		"-i --out d":                          "says how search prints",
		"--format json --out d":               "says how search prints",
		"-if x --out d":                       "says how search prints",
		"--tree --out d":                      "says how search prints",
		"--limit 3 --out d":                   "says how search prints",
		"--kye x --out d":                     "is no option of evidence",
		"--at-checkpoint /nowhere --out d":    "--at-checkpoint",
		"--at-checkpoint /etc/passwd --out d": "not a checkpoint",
		"--store a --api b --out d":           "only one of them",
		"-m NOTYPE --out d":                   "NOTYPE",
	} {
		if _, err := parseEvidence(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// The exit codes: 1 for what is changed, 2 for what could not be checked.
func TestEvidenceVerifyCodes(t *testing.T) {
	t.Parallel()
	_, public, err := checkpoint.Generate("hub")
	if err != nil {
		t.Fatal(err)
	}
	secret, _, _ := checkpoint.Generate("hub")
	dir := t.TempDir()
	key, bundle := filepath.Join(dir, "k"), filepath.Join(dir, "b")
	bad := filepath.Join(dir, "bad")
	for path, text := range map[string]string{key: public + "\n", filepath.Join(dir, "secret"): secret, filepath.Join(bad, "MANIFEST"): "auditfleet evidence 1\nstore x\n\n— hub AAAA\n"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		line string
		code int
		said string
	}{
		{"verify " + bundle + " --key " + key, 2, "no such file"},
		{"verify " + dir + " --key " + key, 2, "not a whole bundle"},
		{"verify " + key + " --key " + key, 2, "it is no folder"},
		{"verify " + bad + " --key " + key, 1, "changed"},
		{"verify " + bad + " --key " + public, 1, "changed"},
		{"verify " + bad + " --key " + dir + "/none", 2, "no such file"},
		{"verify " + bad + " --key " + dir + "/secret", 2, "is a secret key"},
		{"verify " + bad, 2, "--key are wanted"},
		{"verify --key " + key, 2, "are wanted"},
		{"verify " + bad + " more --key " + key, 2, "one bundle at a time"},
		{"verify --keys x", 2, "no option"},
		{"--out " + dir + " --store " + dir + "/none", 2, "evidence: "},
		{"", 2, "usage: evidence"},
	} {
		var out, errs bytes.Buffer
		code := Run(t.Context(), "v-test", append([]string{"collector", "evidence"}, strings.Fields(c.line)...), Stdio{nil, &out, &errs})
		if code != c.code || !strings.Contains(errs.String(), c.said) {
			t.Errorf("%s: exit code %d, %s%s", c.line, code, out.String(), errs.String())
		}
	}
}
