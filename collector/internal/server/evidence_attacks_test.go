package server

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/evidence"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func copyBundle(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// change replaces a text in a file, once.
func change(t *testing.T, dir, name, from, to string) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(b, []byte(from)) {
		t.Fatalf("%s has no %q: %v", name, from, err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(from), []byte(to), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

// again writes the manifest anew, as who has no key, or another one, would.
func again(t *testing.T, dir string, signer note.Signer) {
	t.Helper()
	old := readAll(t, dir)[evidence.Manifest]
	store := strings.Split(old, "\n")[1]
	names := []string{}
	for name := range readAll(t, dir) {
		if name != evidence.Manifest {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	text := "auditfleet evidence 2\n" + store + "\n"
	files := readAll(t, dir)
	for _, name := range names {
		text += fmt.Sprintf("bytes %d %s\n", len(files[name]), name)
	}
	for _, name := range names {
		text += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(files[name])), name)
	}
	out := []byte(text)
	if signer != nil {
		var err error
		if out, err = note.Sign(&note.Note{Text: text}, signer); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, evidence.Manifest), out, 0o600); err != nil {
		t.Fatal(err)
	}
}

// relined cuts a file into lines and has fn put them together again.
func relined(t *testing.T, dir, name string, fn func([]string) []string) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list := strings.SplitAfter(string(b), "\n")
	if err := os.WriteFile(path, []byte(strings.Join(fn(list[:len(list)-1]), "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each attack on a bundle is found: as it stands, with the manifest made anew without a signature, and with one by
// another key. Those by which a record itself is changed are found even where the collector's own key signs them.
func TestEvidenceAttacks(t *testing.T) {
	t.Parallel()
	for _, proves := range []SealProves{ProveFrames, ProveEvents} {
		t.Run(string(proves), func(t *testing.T) { t.Parallel(); evidenceAttacks(t, proves) })
	}
}

func evidenceAttacks(t *testing.T, proves SealProves) {
	key, _, keys := sealKey(t, "hub.example.net")
	r := evidenceHub(t, key, proves)
	hub := r.seal.Signer()
	dir := r.bundle(web1, api.Bundle{Words: []string{"-n", "web1"}})
	otherKey, _, _ := sealKey(t, "hub.example.net")
	other := evidenceHub(t, otherKey, proves)
	otherDir := other.bundle(web1, api.Bundle{Words: []string{"-n", "web1"}})
	swap := func(l []string) []string { l[0], l[1] = l[1], l[0]; return l }
	for _, c := range []struct {
		name   string
		do     func(t *testing.T, dir string)
		signed string // what is said where the collector's own key signs it; "" where nothing can be
	}{
		{"a record changed", func(t *testing.T, d string) { change(t, d, evidence.Records, "acct=\"u", "acct=\"v") }, "a record of lines"},
		{"a record changed in length", func(t *testing.T, d string) { change(t, d, evidence.Records, "acct=\"u", "acct=\"uu") }, "are not those of one event"},
		{"records swapped", func(t *testing.T, d string) {
			b := readAll(t, d)[evidence.Records]
			parts := strings.SplitAfter(b, "\n\n")
			for i := range parts[:len(parts)-2] {
				if len(parts[i]) == len(parts[i+1]) {
					parts[i], parts[i+1] = parts[i+1], parts[i]
					break
				}
			}
			if err := os.WriteFile(filepath.Join(d, evidence.Records), []byte(strings.Join(parts, "")), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "behind a later event"},
		{"a receipt changed", func(t *testing.T, d string) { change(t, d, evidence.Events, `"received_ms":[`, `"received_ms":[1`) }, "a record of lines"},
		{"a sender changed", func(t *testing.T, d string) { change(t, d, evidence.Events, `127.0.0.1`, `127.0.0.2`) }, "a record of lines"},
		{"a verified name given", func(t *testing.T, d string) {
			change(t, d, evidence.Events, `,"received_ms"`, `,"verified":"web1","received_ms"`)
		}, "a record of lines"},
		{"a host changed", func(t *testing.T, d string) { change(t, d, evidence.Events, `"host":"web1"`, `"host":"db1"`) }, "a record of lines"},
		{"an event's line gone", func(t *testing.T, d string) {
			relined(t, d, evidence.Events, func(l []string) []string { return l[:len(l)-1] })
		}, "behind its last event"},
		{"lines of events swapped", func(t *testing.T, d string) { relined(t, d, evidence.Events, swap) }, "it is numbered"},
		{"a proof gone", func(t *testing.T, d string) {
			relined(t, d, evidence.Proofs, func(l []string) []string { return l[1:] })
		}, map[SealProves]string{ProveFrames: "those before end at 0", ProveEvents: "has nothing of batch"}[proves]},
		{"a proof twice", func(t *testing.T, d string) {
			relined(t, d, evidence.Proofs, func(l []string) []string { return append(l[:1:1], l...) })
		}, "it is about"},
		{"proofs of another batch", func(t *testing.T, d string) {
			relined(t, d, evidence.Proofs, func(l []string) []string {
				a, b := strings.Index(l[0], `"of"`), strings.Index(l[1], `"of"`)
				l[0], l[1] = l[0][:a]+l[1][b:], l[1][:b]+l[0][a:]
				return l
			})
		}, "its leaf is of batch"},
		{"said not to be proved", func(t *testing.T, d string) {
			relined(t, d, evidence.Proofs, func(l []string) []string {
				l[0] = l[0][:strings.Index(l[0], map[SealProves]string{ProveFrames: `,"pieces"`, ProveEvents: `,"of"`}[proves])] + `,"not_proved":"x","index":0}` + "\n"
				return l
			})
		}, map[SealProves]string{ProveFrames: "those before end at 0", ProveEvents: "proved"}[proves]},
		{"a checkpoint of another key", func(t *testing.T, d string) {
			b := readAll(t, otherDir)[evidence.Checkpoint]
			if err := os.WriteFile(filepath.Join(d, evidence.Checkpoint), []byte(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "checkpoint"},
		{"the coverage changed", func(t *testing.T, d string) { change(t, d, evidence.Coverage, `"state":"`, `"state":"x`) }, ""},
		{"the question changed", func(t *testing.T, d string) { change(t, d, evidence.QueryFile, `"web1"`, `"web?"`) }, ""},
		{"the counts changed", func(t *testing.T, d string) { change(t, d, evidence.QueryFile, `"events": `, `"events": 1`) }, "there are"},
		{"a name twice", func(t *testing.T, d string) {
			change(t, d, evidence.Events, `"host":"web1"`, `"host":"db1","host":"web1"`)
		}, "not written as"},
		{"a name in other letters", func(t *testing.T, d string) {
			change(t, d, evidence.Events, `"host":"web1"`, `"HOST":"db1","host":"web1"`)
		}, "not written as"},
		{"a name twice in the query", func(t *testing.T, d string) { change(t, d, evidence.QueryFile, `{`, `{"events": 7,`) }, "not written as"},
		{"a name twice in a proof", func(t *testing.T, d string) { change(t, d, evidence.Proofs, `{`, `{"not_proved":"",`) }, "not written as"},
		{"a field more", func(t *testing.T, d string) { change(t, d, evidence.QueryFile, `{`, `{"x": 1,`) }, "unknown field"},
		{"the page changed", func(t *testing.T, d string) { change(t, d, evidence.Readme, `Get the`, `Use any`) }, ""},
		{"a file gone", func(t *testing.T, d string) { os.Remove(filepath.Join(d, evidence.Coverage)) }, "lists"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := copyBundle(t, dir)
			c.do(t, bad)
			if _, err := evidence.Verify(bad, keys); !errors.Is(err, evidence.ErrChanged) {
				t.Errorf("as it stands: %v", err)
			}
			_, secretOther, _ := keyPair(t, "hub.example.net")
			again(t, bad, secretOther)
			if _, err := evidence.Verify(bad, keys); !errors.Is(err, evidence.ErrChanged) {
				t.Errorf("signed by another key: %v", err)
			}
			again(t, bad, nil)
			if rep, err := evidence.Verify(bad, keys); err == nil && (rep.SignedBy != "" || c.signed != "" && !strings.HasPrefix(c.signed, "proved")) {
				t.Errorf("without a signature: %+v", rep)
			}
			again(t, bad, hub)
			_, err := evidence.Verify(bad, keys)
			if c.signed == "" && err != nil || c.signed != "" && (!errors.Is(err, evidence.ErrChanged) || !strings.Contains(err.Error(), c.signed)) {
				t.Errorf("signed by the collector's own key: %v; want %q", err, c.signed)
			}
		})
	}
	t.Run("of another collector", func(t *testing.T) {
		if _, err := evidence.Verify(otherDir, keys); !errors.Is(err, evidence.ErrChanged) {
			t.Errorf("%v", err)
		}
	})
	t.Run("odd files", func(t *testing.T) {
		for name, do := range map[string]func(d string) error{
			"a link": func(d string) error {
				return errors.Join(os.Rename(d+"/records.log", d+"/../r"), os.Symlink("../r", d+"/records.log"))
			},
			"a link to all": func(d string) error {
				return errors.Join(os.Remove(d+"/MANIFEST"), os.Symlink(dir+"/MANIFEST", d+"/MANIFEST"))
			},
			"a folder":    func(d string) error { return errors.Join(os.Remove(d+"/query.json"), os.Mkdir(d+"/query.json", 0o700)) },
			"a pipe":      func(d string) error { return errors.Join(os.Remove(d+"/events.jsonl"), mkfifo(d+"/events.jsonl")) },
			"enormous":    func(d string) error { return os.Truncate(d+"/records.log", 1<<40) },
			"a long line": func(d string) error { return os.Truncate(d+"/proofs.jsonl", 1<<33) },
			"a manifest":  func(d string) error { return os.Truncate(d+"/MANIFEST", 1<<40) },
			"cut short":   func(d string) error { return os.Truncate(d+"/records.log", 10) },
			"empty":       func(d string) error { return os.Truncate(d+"/MANIFEST", 0) },
		} {
			bad := copyBundle(t, dir)
			if err := do(bad); err != nil {
				t.Fatal(err)
			}
			if _, err := evidence.Verify(bad, keys); !errors.Is(err, evidence.ErrChanged) {
				t.Errorf("%s: %v", name, err)
			}
		}
		half := copyBundle(t, dir)
		os.Remove(filepath.Join(half, evidence.Manifest))
		if _, err := evidence.Verify(half, keys); !errors.Is(err, evidence.ErrBundle) {
			t.Errorf("half a bundle: %v", err)
		}
		more := copyBundle(t, dir)
		os.WriteFile(filepath.Join(more, "note.txt"), nil, 0o600)
		if rep, err := evidence.Verify(more, keys); err != nil || !slices.Equal(rep.Others, []string{"note.txt"}) {
			t.Errorf("a file more: %+v, %v", rep, err)
		}
	})
}

func keyPair(t *testing.T, name string) (string, note.Signer, error) {
	t.Helper()
	secret, public, err := checkpoint.Generate(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := checkpoint.ReadSigner(secret)
	return public, s, err
}

// Without a key a bundle is made, and says that nothing of it is proved.
func TestEvidenceUnsigned(t *testing.T) {
	t.Parallel()
	r := evidenceHub(t, "", ProveFrames)
	dir := r.bundle(web1, api.Bundle{})
	_, _, keys := sealKey(t, "other")
	rep, err := evidence.Verify(dir, keys)
	if err != nil || rep.SignedBy != "" || rep.Proved != 0 || rep.Unproved == 0 || rep.Query.Why == "" {
		t.Errorf("%+v, %v", rep, err)
	}
	// A bundle is never put over another thing, and half a one is not taken for one.
	if _, err := evidence.NewFolder(dir); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Errorf("over another: %v", err)
	}
	at := filepath.Join(t.TempDir(), "b")
	f, err := evidence.NewFolder(at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.NewFolder(at); err == nil || !strings.Contains(err.Error(), "half a bundle") {
		t.Errorf("two at once: %v", err)
	}
	if err := f.Take("../x", nil); err == nil {
		t.Error("a file outside of the folder is taken")
	}
	if err := f.Finish(); err == nil {
		t.Error("without a manifest it is whole")
	}
	if _, err := os.Stat(at); err == nil {
		t.Error("half a bundle has the name of a whole one")
	}
}

// A bundle from a store that no collector has is that of the collector that had it; where its log does not go on from
// what was signed, nothing is proved by it.
func TestEvidenceAtRest(t *testing.T) {
	t.Parallel()
	key, _, keys := sealKey(t, "hub.example.net")
	r := evidenceHub(t, key, ProveFrames)
	running := r.bundle(web1, api.Bundle{})
	r.stop()
	at := func(a api.Bundle) (dir string) {
		t.Helper()
		st, err := OpenReadOnly(r.cfg.Store, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		st.Version, st.CoverageJSON = r.cfg.Version, r.cfg.CoverageJSON
		dir = filepath.Join(t.TempDir(), "b")
		f, err := evidence.NewFolder(dir)
		if err == nil {
			err = st.Evidence(t.Context(), web1, a, f.Take)
		}
		if err == nil {
			err = f.Finish()
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	files := readAll(t, running)
	dir := at(api.Bundle{Checkpoint: []byte(files[evidence.Checkpoint])})
	for name, text := range readAll(t, dir) {
		if text != files[name] && name != evidence.Manifest { // the key is not at its usual place: it is not signed
			t.Errorf("%s is another one:\n%.500s\n%.500s", name, text, files[name])
		}
	}
	if rep, err := evidence.Verify(dir, keys); err != nil || rep.Proved == 0 || rep.Unproved != 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	if err := seal.Stop(fsys.OS, r.cfg.Store, "an older copy was put back"); err != nil {
		t.Fatal(err)
	}
	rep, err := evidence.Verify(at(api.Bundle{}), keys)
	if err != nil || rep.Proved != 0 || !strings.Contains(rep.Query.Why, "an older copy was put back") {
		t.Errorf("%+v, %v", rep, err)
	}
}
