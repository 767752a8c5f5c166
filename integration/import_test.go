package integration

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/testca"
)

// forwarderImport runs forwarder import, and returns the last line of its output, its messages and its exit code.
func forwarderImport(t *testing.T, args ...string) (last map[string]any, messages string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binaries(t).Forwarder, append([]string{"import", "--format", "json"}, args...)...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if lines[len(lines)-1] != "" {
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			t.Fatalf("%q: %v", lines[len(lines)-1], err)
		}
	}
	return last, errs.String(), cmd.ProcessState.ExitCode()
}

// TestForwarderImport: a host brings its old logs with the certificate by which it sends, while it sends: each record is stored once.
// It may not say what others did, nor go on with others' imports, nor take anything back.
func TestForwarderImport(t *testing.T) {
	t.Parallel()
	pki := t.TempDir()
	ca := testca.New(t, pki)
	ca.Issue(pki, nil, "collector", "localhost")
	for _, host := range []string{"web1", "web2"} {
		ca.Issue(pki, nil, host)
	}
	role := func(role string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"auditfleet:role=" + role} }
	}
	ca.Issue(pki, role("admin"), "boss")
	ca.Issue(pki, role("read"), "reader")
	c := startGRPC(t, pki)
	as := func(name string, args ...string) []string {
		return append(append([]string{"--remote", c.addr()}, tlsArgs(pki, name)...), args...)
	}
	lines := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 71, Records: 30_000, Start: time.Now().Add(-time.Hour)})
	dir, spool := t.TempDir(), t.TempDir()
	old, now := filepath.Join(dir, "audit.log.1"), filepath.Join(dir, "audit.log")
	half := len(lines) / 2
	writeFile(t, old, strings.Join(lines[:half], "\n")+"\n")
	writeFile(t, now, strings.Join(lines[half:], "\n")+"\n")

	// It sends audit.log, of which the import finds some stored already, and all of it in the end.
	p, err := harness.Start(harness.Spec{Name: "forwarder run", Args: append([]string{binaries(t).Forwarder, "run", "--remote", c.addr(), "--transport", "grpc",
		"--source", now, "--spool", spool, "--log-file", "none"}, tlsArgs(pki, "web1")...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	got, messages, code := forwarderImport(t, as("web1", "--name", "mine", old)...)
	if code != 0 || got["records"] != float64(half) || got["stored"] != float64(half) || got["claims"] != nil {
		t.Fatalf("exit %d, %v: %s", code, got, messages)
	}
	if err := p.Wait(2 * time.Minute); err != nil {
		t.Fatalf("%v: %s", err, p.Output())
	}
	if got, messages, code = forwarderImport(t, as("web1", "--name", "mine", dir)...); code != 0 || got["records"] != float64(len(lines)) || got["stored"] != 0.0 {
		t.Errorf("again, with what it has sent: exit %d, %v: %s", code, got, messages)
	}
	sameRecords(t, lines, foundAll(t, c.Collector, len(lines), "-n", "web1"))

	// By the file with which it is started.
	options := filepath.Join(dir, "forwarder.conf")
	writeFile(t, options, "remote = "+c.addr()+"\ntransport = grpc\ntls_ca = "+pki+"/ca.crt\ntls_cert = "+pki+"/web1.crt\ntls_key = "+pki+"/web1.key\n")
	if err := os.Chmod(options, 0o640); err != nil {
		t.Fatal(err)
	}
	if got, messages, code = forwarderImport(t, "--options", options, "--dry-run", old); code != 0 || got["skipped"] != float64(half) {
		t.Errorf("by its options: exit %d, %v: %s", code, got, messages)
	}

	// What it says of others is its own word, and flagged.
	liar := filepath.Join(dir, "liar")
	writeFile(t, liar, "node=web2 type=USER_LOGIN msg=audit(1700000000.001:1): pid=1 uid=0 res=success\ntype=USER_END msg=audit(1700000001.001:2): pid=1 uid=0 res=success\n")
	if got, messages, code = forwarderImport(t, as("web1", "--name", "lies", liar)...); code != 0 || got["stored"] != 2.0 || got["claims"] != 1.0 {
		t.Errorf("another host's name: exit %d, %v: %s", code, got, messages)
	}
	if r := found(t, c.Collector, "-n", "web1", "--mismatch"); len(r) != 1 || !strings.Contains(r[0], "node=web2") {
		t.Errorf("flagged: %q", r)
	}
	if r := found(t, c.Collector, "-n", "web2"); len(r) != 0 {
		t.Errorf("web2 has %q", r)
	}

	for _, x := range []struct {
		args  []string
		words string
	}{
		{as("web2", "--name", "mine", liar), "is the name of another import"},
		{as("web1", "--undo", "mine"), "takes the role admin, and its certificate has send"},
		{as("reader", liar), "takes the role admin or send, and its certificate has read"},
		{append([]string{"--remote", c.addr()}, liar), "--tls-ca is missing"},
	} {
		if got, messages, code = forwarderImport(t, x.args...); code != 2 || !strings.Contains(messages, x.words) {
			t.Errorf("%v: exit %d, %v, %q, want %q", x.args, code, got, messages, x.words)
		}
	}
	if got, messages, code = forwarderImport(t, as("web2", "--list")...); code != 0 || got != nil {
		t.Errorf("web2 lists %v: exit %d: %s", got, code, messages)
	}
	if got, messages, code = forwarderImport(t, as("boss", "--name", "all", "--node", "web1", liar)...); code != 0 || got["stored"] != 1.0 || got["skipped"] != 1.0 {
		t.Errorf("an administrator's: exit %d, %v: %s", code, got, messages)
	}
	if r := found(t, c.Collector, "-n", "web2"); len(r) != 1 {
		t.Errorf("web2 has %q", r)
	}
	if got, messages, code = forwarderImport(t, as("boss", "--undo", "lies")...); code != 0 || got["records"] != 2.0 {
		t.Errorf("an administrator takes it back: exit %d, %v: %s", code, got, messages)
	}
}
