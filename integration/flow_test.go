package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// TestStockSender: 20,000 real records through the stock audisp-remote come back
// byte for byte, none missing, none twice; and what is found is what the stock
// ausearch finds in the same text.
func TestStockSender(t *testing.T) {
	t.Parallel()
	stockPeers(t)
	c := startCollector(t, harness.CollectorOptions{})
	sent := realLog(t, harness.RecordedEnriched(), harness.Make{Seed: 11, Records: 20_000, Nodes: []string{"web1", "web2"}, RareKey: "needle", RareEvery: 700})
	sender, err := harness.StartAudispRemote(t.TempDir(), c.Port, feed(sent), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.Wait(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
	got := foundAll(t, c, len(sent))
	sameRecords(t, sent, got)
	inOrder(t, sent, got)
	stockFindsTheSame(t, c, sent)
	hostsKnown(t, c, "web1", "web2")
}

// stockFindsTheSame compares some searches with the stock ausearch on the text.
func stockFindsTheSame(t *testing.T, c *harness.Collector, sent []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(file, []byte(strings.Join(sent, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, query := range [][]string{
		{"-k", "needle"},
		{"-m", "USER_START"},
		{"-x", "/usr/bin/tar"},
		{"-f", "settings.json"},
		{"-sv", "no", "-ua", "1003"},
		{"-n", "web2", "-sc", "connect"},
	} {
		want := stockFinds(t, file, query...)
		t.Run(strings.Join(query, " "), func(t *testing.T) { sameRecords(t, want, foundAll(t, c, len(want), query...)) })
	}
	r, err := c.Search(time.Minute, "-k", "no-such-key")
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 1 || !strings.Contains(string(r.Stderr), "<no matches>") {
		t.Errorf("a search that finds nothing: exit %d, %q; stock says <no matches> and 1", r.Code, r.Stderr)
	}
}

// stockFinds are the records the stock ausearch prints. To records without an
// enriched tail it adds an empty one when another of the event has one: that is
// taken off, for no record was logged with it.
func stockFinds(t *testing.T, file string, query ...string) []string {
	t.Helper()
	r, err := harness.Ausearch(time.Minute, file, append([]string{"--raw"}, query...)...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 {
		t.Fatalf("ausearch %v: exit %d: %s: the test's question is a bad one", query, r.Code, r.Stderr)
	}
	lines := strings.Split(strings.TrimSuffix(string(r.Stdout), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\x1d")
	}
	return lines
}

func hostsKnown(t *testing.T, c *harness.Collector, names ...string) {
	t.Helper()
	r, err := c.Command(time.Minute, "hosts")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if r.Code != 0 || !strings.Contains(string(r.Stdout), name) {
			t.Errorf("collector hosts (exit %d) does not name %s:\n%s%s", r.Code, name, r.Stdout, r.Stderr)
		}
	}
}

// TestForwarderStdin: 50,000 real records through our forwarder's stdin.
func TestForwarderStdin(t *testing.T) {
	t.Parallel()
	c := startCollector(t, harness.CollectorOptions{})
	sent := realLog(t, harness.RecordedEnriched(), harness.Make{Seed: 12, Records: 50_000, Nodes: []string{"app1"}})
	forward(t, t.TempDir(), c.Addr(), "stdin", sent)
	got := foundAll(t, c, len(sent))
	sameRecords(t, sent, got)
	inOrder(t, sent, got)
}

// TestForwarderFile: 50,000 real records without node= from a file; and they are
// still there, and searched the same, when the server has stopped and after a restart.
func TestForwarderFile(t *testing.T) {
	t.Parallel()
	c := startCollector(t, harness.CollectorOptions{})
	sent := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 13, Records: 50_000})
	file := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(file, []byte(strings.Join(sent, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	forward(t, t.TempDir(), c.Addr(), file, nil)
	sameRecords(t, sent, foundAll(t, c, len(sent)))
	if err := c.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	got := foundAll(t, c, len(sent))
	sameRecords(t, sent, got)
	inOrder(t, sent, got)
	again := startCollector(t, harness.CollectorOptions{Store: c.Store})
	sameRecords(t, sent, foundAll(t, again, len(sent)))
}

// forward runs our forwarder until it has drained its input; exit 0 says that
// all was acknowledged.
func forward(t *testing.T, dir, remote, source string, lines []string) {
	t.Helper()
	p := startForwarder(t, dir, remote, source, lines)
	if err := p.Wait(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
}

func startForwarder(t *testing.T, dir, remote, source string, lines []string, args ...string) *harness.Proc {
	t.Helper()
	var p *harness.Proc
	var err error
	if source == "stdin" {
		p, err = harness.StartForwarder(binaries(t), dir, remote, source, feed(lines), args...)
	} else {
		p, err = harness.StartForwarder(binaries(t), dir, remote, source, nil, args...)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// TestForwarderIntoStockServer: our forwarder into a stock auditd.
func TestForwarderIntoStockServer(t *testing.T) {
	t.Parallel()
	stockPeers(t)
	server, err := harness.StartAuditdServer(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	sent := realLog(t, harness.RecordedEnriched(), harness.Make{Seed: 14, Records: 50_000, Nodes: []string{"app1"}})
	forward(t, t.TempDir(), server.Addr(), "stdin", sent)
	if err := server.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	got, err := server.Lines()
	if err != nil {
		t.Fatal(err)
	}
	sameRecords(t, sent, got)
	for i := range min(len(sent), len(got)) {
		if sent[i] != got[i] {
			t.Fatalf("record %d is %q, was sent as %q", i+1, got[i], sent[i])
		}
	}
}

// TestForwarderOverCutLink: the link to our collector is cut again and again, held
// and let go; every record is there, once.
func TestForwarderOverCutLink(t *testing.T) {
	t.Parallel()
	c := startCollector(t, harness.CollectorOptions{Args: []string{"--tcp-max-per-addr", "64"}})
	proxy, err := harness.NewProxy(c.Addr(), 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	sent := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 15, Records: 50_000, Nodes: []string{"far1"}})
	// Where no acknowledgement comes between ten cuts the sender's pauses add up to a minute.
	p := startForwarder(t, t.TempDir(), proxy.Addr(), "stdin", sent, "--drain-timeout", "2m")
	cuts := 0
	for mark := int64(300_000); !p.Exited() && cuts < 10; mark += 900_000 {
		if !harness.Poll(time.Minute, func() bool { return proxy.Passed() > mark || p.Exited() }) {
			t.Fatalf("only %d bytes went over the link; the forwarder's output:\n%s", proxy.Passed(), p.Output())
		}
		if cuts%3 == 2 {
			proxy.BlackHole()
			time.Sleep(50 * time.Millisecond)
			proxy.Resume()
		}
		proxy.Cut()
		cuts++
	}
	if err := p.Wait(3 * time.Minute); err != nil {
		t.Fatal(err)
	}
	if cuts < 5 {
		t.Errorf("the link was cut %d times only", cuts)
	}
	sameRecords(t, sent, foundAll(t, c, len(sent)))
}

// TestUnparsableRecord: what cannot be parsed is stored all the same, raw. A damaged record
// is found by its type or its time; a line without a time is named by --debug alone.
func TestUnparsableRecord(t *testing.T) {
	t.Parallel()
	c := startCollector(t, harness.CollectorOptions{})
	now := strconv.FormatInt(time.Now().Unix(), 10)
	good := "node=odd1 type=USER_CMD msg=audit(" + now + ".100:7): pid=1 uid=0 auid=1000 ses=1 msg='cwd=\"/\" cmd=6964 terminal=pts/0 res=success'"
	sent := []string{
		good,
		"node=odd1 type=SYSCALL msg=audit(garbage): arch=c000003e",
		"node=odd1 type=UNKNOWN[1999] msg=audit(" + now + ".200:8): what=ever",
		"type=CWD no header at all",
		"node=odd1 type=PATH msg=audit(" + now + ".300:9): name=\"\xff\xfe\x01 bytes\" =\x1d= x",
	}
	forward(t, t.TempDir(), c.Addr(), "stdin", sent)
	sameRecords(t, []string{sent[0], sent[2], sent[4]}, foundAll(t, c, 3))
	r, err := c.Search(time.Minute, "--debug", "-m", "ALL")
	if err != nil || r.Code != 0 || !bytes.Contains(r.Stderr, []byte("audit(garbage)")) || !bytes.Contains(r.Stderr, []byte("no header at all")) {
		t.Errorf("search --debug: exit %d, %q, %v", r.Code, r.Stderr, err)
	}
	for _, query := range [][]string{{"-m", "USER_CMD"}, {"-m", "1999"}} {
		if got := found(t, c, query...); len(got) != 1 {
			t.Errorf("search %v found %d records, want 1: %q", query, len(got), got)
		}
	}
}
