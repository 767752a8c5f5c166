package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/evidence"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

func mkfifo(path string) error { return unix.Mkfifo(path, 0o600) }

// sealKey writes a key that signs, and returns its file and its public part.
func sealKey(t *testing.T, name string) (file, public string, keys []note.Verifier) {
	t.Helper()
	secret, public, err := checkpoint.Generate(name)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err = checkpoint.ReadVerifiers(public); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, public, keys
}

// evidenceHub has three hosts in several batches, with records of every form; the file of a key, "" for none, signs.
func evidenceHub(t *testing.T, key string, proves SealProves) *running {
	cfg := testConfig(shortDir(t))
	cfg.SealKey, cfg.SealProves = key, proves
	cfg.Limits = listen.Limits{MaxPerAddr: 10}
	cfg.CoverageJSON = func(list []*fleet.Coverage) (out []byte) {
		for _, c := range list {
			out = fmt.Appendf(out, "{\"host\":%q,\"state\":%q}\n", c.GetHost(), c.GetState())
		}
		return out
	}
	r := start(t, cfg)
	c := r.dial()
	n := 0
	for batch := range 4 {
		var records []string
		for i := range 40 + 13*batch {
			n++
			host := []string{"web1", "db1", "web2"}[i%3]
			records = append(records, userRecord(host, n))
			if i%11 == 0 {
				records = append(records, "node=web1 a line that is no record "+strings.Repeat("x", i))
			}
			if i%13 == 5 {
				records = append(records, userRecord("web1", n)+"\nand more")
			}
		}
		exchange(t, c, uint32(1+batch*1000), records...)
		if err := r.head.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// bundle has a bundle made through the API.
func (r *running) bundle(q *query.Query, a api.Bundle) string {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "bundle")
	f, err := evidence.NewFolder(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.client().Evidence(r.t.Context(), q, a, f.Take); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Finish(); err != nil {
		r.t.Fatal(err)
	}
	return dir
}

func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

var web1 = &query.Query{Nodes: []string{"web1"}, StartMs: 1700000001000, EndMs: 1700000150999}

// A bundle is good, has what a search finds, byte for byte; the same question
// at the same checkpoint gives the same bundle. Steps by hand check it, too. Where events are proved alone, nothing of other hosts is
// in it, else only in the pieces.
func TestEvidence(t *testing.T) {
	t.Parallel()
	for _, proves := range []SealProves{ProveFrames, ProveEvents} {
		t.Run(string(proves), func(t *testing.T) { t.Parallel(); evidenceOf(t, proves) })
	}
}

func evidenceOf(t *testing.T, proves SealProves) {
	key, public, keys := sealKey(t, "hub.example.net")
	r := evidenceHub(t, key, proves)
	dir := r.bundle(web1, api.Bundle{Words: []string{"-n", "web1"}, Zone: "UTC"})
	rep, err := evidence.Verify(dir, keys)
	if err != nil || rep.Proved == 0 || rep.Unproved != 0 || rep.SignedBy != "hub.example.net" || rep.Proved != rep.Query.Events {
		t.Fatalf("%+v, %v", rep, err)
	}
	files := readAll(t, dir)
	var want strings.Builder
	n := 0
	err = r.client().Scan(t.Context(), &query.Query{Nodes: web1.Nodes, StartMs: web1.StartMs, EndMs: web1.EndMs}, func(ev *event.Event) error {
		text, _ := store.AppendText(nil, ev)
		want.Write(text)
		n++
		return nil
	})
	if err != nil || files[evidence.Records] != want.String() || int64(n) != rep.Query.Events || n < 20 {
		t.Errorf("%d events, %v\n%.300s\nwant\n%.300s", n, err, files[evidence.Records], want.String())
	}
	for name, text := range files {
		for _, other := range []string{"node=db1", `"db1"`, "node=web2", `"web2"`} {
			if strings.Contains(text, other) && name != evidence.Pieces {
				t.Errorf("%s names another host: %s", name, other)
			}
		}
	}
	if pieces := files[evidence.Pieces]; (pieces == "") != (proves == ProveEvents) {
		t.Errorf("%d bytes of pieces", len(pieces))
	}
	_, again, err := r.seal.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, r.dial(), 1, userRecord("web1", 50), userRecord("db1", 51)) // goes on meanwhile
	if err := r.head.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	same := r.bundle(web1, api.Bundle{Words: []string{"-n", "web1"}, Zone: "UTC", Checkpoint: []byte(files[evidence.Checkpoint])})
	for name, text := range readAll(t, same) {
		if text != files[name] {
			t.Errorf("%s is another one at the same checkpoint", name)
		}
	}
	if later := r.bundle(web1, api.Bundle{}); readAll(t, later)[evidence.Checkpoint] == files[evidence.Checkpoint] {
		t.Errorf("no new checkpoint: %+v", again)
	}
	byHand(t, dir, public)
}

// Events of hosts that are not told apart are proved too, by pieces and alone, for the program and by hand.
func TestEvidenceOfMixedHosts(t *testing.T) {
	t.Parallel()
	for _, proves := range []SealProves{ProveFrames, ProveEvents} {
		t.Run(string(proves), func(t *testing.T) {
			t.Parallel()
			key, public, keys := sealKey(t, "hub.example.net")
			cfg := testConfig(shortDir(t))
			cfg.SealKey, cfg.SealProves, cfg.MaxHosts = key, proves, 1
			r := start(t, cfg)
			var records []string
			for i := range 60 {
				records = append(records, userRecord([]string{"web1", "db1", "web2"}[i%3], i+1))
			}
			exchange(t, r.dial(), 1, records...)
			dir := r.bundle(&query.Query{StartMs: web1.StartMs, EndMs: web1.EndMs}, api.Bundle{})
			rep, err := evidence.Verify(dir, keys)
			if err != nil || rep.Unproved != 0 || rep.Proved < 50 || len(rep.Query.Hosts) < 3 {
				t.Errorf("%+v, %v", rep, err)
			}
			if p := readAll(t, dir)[evidence.Proofs]; !strings.Contains(p, ",1],[") {
				t.Errorf("no event of a host that is not told apart: %.300s", p)
			}
			byHand(t, dir, public)
		})
	}
}

// byHand runs the steps of README.md, where the tools are there, on a good bundle and on a changed one.
func byHand(t *testing.T, dir, public string) {
	for _, tool := range []string{"sha256sum", "openssl", "python3", "zstd", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("%s is not here: the steps by hand are not run", tool)
			return
		}
	}
	text := readAll(t, dir)[evidence.Readme]
	var blocks []string
	for _, part := range strings.Split(text, "\n```")[1:] {
		kind, body, _ := strings.Cut(part, "\n")
		switch kind {
		case "sh":
			blocks = append(blocks, body)
		case "python":
			blocks = append(blocks, "python3 - <<'EOF'\n"+body+"\nEOF\n")
		}
	}
	if len(blocks) != 3 {
		t.Fatalf("%d blocks in the README, want 3", len(blocks))
	}
	tmp := t.TempDir()
	run := func(dir string) (out string) {
		for _, b := range blocks {
			cmd := exec.Command("sh", "-e", "-c", b)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "KEY="+public, "TMPDIR="+tmp)
			got, err := cmd.CombinedOutput()
			out += string(got)
			if err != nil {
				out += "FAILED: " + err.Error() + "\n"
			}
		}
		return out
	}
	good := run(dir)
	if strings.Contains(good, "FAILED") || strings.Count(good, ": OK\n") != 8 || strings.Count(good, "Signature Verified Successfully") != 2 || !strings.Contains(good, fmt.Sprintf("%d of %[1]d events are proved", strings.Count(readAll(t, dir)[evidence.Events], "\n"))) {
		t.Errorf("by hand:\n%s", good)
	}
	bad := copyBundle(t, dir)
	change(t, bad, evidence.Records, "acct=\"u", "acct=\"v")
	if out := run(bad); !strings.Contains(out, "records.log: FAILED") || !strings.Contains(out, "a record was changed") {
		t.Errorf("by hand, changed:\n%s", out)
	}
}

// Who asks for a bundle and goes away before its turn takes no turn from others.
func TestTurnsOfWhoLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newTurns()
		if err := q.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			if err := q.wait(ctx); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		began := time.Now()
		for range 2 {
			if err := q.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if waited := time.Since(began); waited != 2*time.Second { // of a clock that is made up
			t.Errorf("waited %v for two turns", waited)
		}
	})
}
