package integration

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/internal/testca"
)

// grpcCollector is a collector that receives by gRPC only, behind a link that can be cut.
type grpcCollector struct {
	*harness.Collector
	t    *testing.T
	o    harness.CollectorOptions
	link *harness.Proxy
}

// pkiOf makes a CA, and certificates of a collector and a host.
func pkiOf(t *testing.T, host string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	ca := testca.New(t, dir)
	ca.Issue(dir, nil, "collector", "localhost")
	ca.Issue(dir, nil, host)
	return dir
}

func tlsArgs(pki, name string) []string {
	return []string{"--tls-ca", filepath.Join(pki, "ca.crt"), "--tls-cert", filepath.Join(pki, name+".crt"), "--tls-key", filepath.Join(pki, name+".key")}
}

func startGRPC(t *testing.T, pki string) *grpcCollector {
	t.Helper()
	return startGRPCWith(t, pki)
}

// startGRPCWith starts one with further flags.
func startGRPCWith(t *testing.T, pki string, flags ...string) *grpcCollector {
	t.Helper()
	port, err := need.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	c := &grpcCollector{t: t, o: harness.CollectorOptions{Store: t.TempDir() + "/store", Args: append([]string{"--listen", "", "--grpc", addr}, append(tlsArgs(pki, "collector"), flags...)...)}}
	c.Collector = startCollector(t, c.o)
	if c.link, err = harness.NewProxy(addr, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.link.Close() })
	return c
}

func (c *grpcCollector) addr() string { return fmt.Sprintf("localhost:%d", c.link.Port()) }

// restart kills the collector, and starts it again.
func (c *grpcCollector) restart() {
	c.Kill()
	c.Collector = startCollector(c.t, c.o)
}

// TestEverythingGoesWrongByGRPC: what TestEverythingGoesWrong does, with two collectors, over
// gRPC: a record is once at each collector that has it, and at one of both at least.
func TestEverythingGoesWrongByGRPC(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	pki := pkiOf(t, "worst1")
	all := []*grpcCollector{startGRPC(t, pki), startGRPC(t, pki)}
	lines := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 64, Records: 40_000, Nodes: []string{"worst1"}})
	dir := t.TempDir()
	log := dir + "/audit.log"
	writeFile(t, log, "")
	launch := func() *harness.Proc {
		args := []string{binaries(t).Forwarder, "run", "--remote", all[0].addr() + "," + all[1].addr(), "--transport", "grpc", "--probe-interval", "300ms",
			"--source", log, "--follow", "--state", dir + "/state", "--spool", dir + "/spool", "--log-file", "none"}
		p, err := harness.Start(harness.Spec{Name: "forwarder run", Args: append(args, tlsArgs(pki, "worst1")...)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	p := worstDay(t, rng, log, lines, launch, func() worstServer {
		c := all[rng.IntN(2)]
		return worstServer{c.link, c.restart}
	})
	distinct := func() (list []string) {
		seen := map[string]bool{}
		for _, c := range all {
			for _, l := range found(t, c.Collector) {
				if !seen[l] {
					seen[l] = true
					list = append(list, l)
				}
			}
		}
		return list
	}
	if !harness.Poll(2*time.Minute, func() bool { return len(distinct()) >= len(lines) }) {
		t.Errorf("not all came; the forwarder's output:\n%s", p.Output())
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	sameRecords(t, lines, distinct())
	for _, c := range all {
		once(t, found(t, c.Collector))
	}
}

// TestSpoolPutBack: a spool with records is copied, shipped, and the copy put back and shipped
// again: the collector knows what it has. Records that are spooled after that are stored,
// though they have the places in the spool of others that were.
func TestSpoolPutBack(t *testing.T) {
	t.Parallel()
	pki := pkiOf(t, "web1")
	c := startGRPC(t, pki)
	lines := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 65, Records: 6_000, Nodes: []string{"web1"}})
	dir := t.TempDir()
	run := func(source string, code int, to string) {
		t.Helper()
		args := []string{binaries(t).Forwarder, "run", "--remote", to, "--transport", "grpc", "--spool", dir + "/spool", "--log-file", "none"}
		if source == "" {
			args = append(args, "--drain-only")
		} else {
			args = append(args, "--source", source)
		}
		if code != 0 {
			args = append(args, "--drain-timeout", "200ms")
		}
		r, err := harness.Run(time.Minute, append(args, tlsArgs(pki, "web1")...)...)
		if err != nil || r.Code != code {
			t.Fatalf("exit %d, want %d: %v\n%s", r.Code, code, err, r.Stderr)
		}
	}
	piece := func(name string, part []string) string {
		file := filepath.Join(dir, name)
		writeFile(t, file, strings.Join(part, "\n")+"\n")
		return file
	}
	run(piece("first", lines[:2000]), 3, "localhost:1")
	copied := t.TempDir()
	copyTree(t, dir+"/spool", copied)
	run(piece("second", lines[2000:4000]), 0, c.addr())
	if err := os.RemoveAll(dir + "/spool"); err != nil {
		t.Fatal(err)
	}
	copyTree(t, copied, dir+"/spool")
	run("", 0, c.addr())
	run(piece("third", lines[4000:]), 0, c.addr())
	sameRecords(t, lines, foundAll(t, c.Collector, len(lines)))
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
