package integration

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// pskForwarder starts the forwarder with an audisp-remote.conf for TLS with a pre-shared key.
func pskForwarder(t *testing.T, dir, addr, key, identity, profile, source string) *harness.Proc {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	remote := confFile(t, dir, "audisp-remote.conf", map[string]string{
		"remote_server": host, "port": port, "transport": "tls", "format": "managed", "tls_psk_file": key, "tls_psk_identity": identity, "tls_crypto_profile": profile,
	})
	p, err := harness.Start(harness.Spec{Name: "forwarder run", Args: []string{
		binaries(t).Forwarder, "run", "--source", source, "--remote-config", remote, "--spool", t.TempDir() + "/spool", "--drain-timeout", "8s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// The forwarder delivers to auditd 4.2.2 over TLS with a pre-shared key, each record once; where
// the key or the identity is wrong it says so, and keeps the records.
func TestNewestAuditdAndTheForwarder(t *testing.T) {
	program := newestTLS(t, "auditd")
	for _, tt := range []struct {
		name, profile, identity string
		key                     byte
		says                    string // what the administrator is told; "": all arrive
	}{
		{"compatible", "compatible", "host-1", 0x5a, ""},
		{"a wrong key", "compatible", "host-1", 1, "compare tls_psk_file"},
		{"an unknown identity", "compatible", "host-9", 0x5a, "see its log"},
		{"pqc, which OpenSSL has not before 3.5", "pqc", "host-1", 0x5a, "tls_crypto_profile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := privateDir(t)
			pskKey(t, dir, "host-1.key", 0x5a)
			addr, log := startNewestAuditd(t, program, dir, nil)
			sent := realLog(t, harness.RecordedEnriched(), harness.Make{Records: 2000})
			source := filepath.Join(t.TempDir(), "audit.log")
			if err := os.WriteFile(source, []byte(strings.Join(sent, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			p := pskForwarder(t, t.TempDir(), addr, pskKey(t, dir, "ours.key", tt.key), tt.identity, tt.profile, source)
			if !harness.Poll(time.Minute, p.Exited) {
				t.Fatalf("it does not end:\n%s", p.Output())
			}
			if tt.says != "" && (tt.profile != "pqc" || !strings.Contains(p.Output(), " left=0 ")) { // OpenSSL 3.5 has it
				if out := p.Output(); !strings.Contains(out, tt.says) || !strings.Contains(out, "records are left in the spool") {
					t.Errorf("it says:\n%s", out)
				}
				t.Log(p.Output())
				return
			}
			got, err := harness.LogLines(log)
			if err != nil {
				t.Fatal(err)
			}
			sameRecords(t, sent, withoutCrypto(got))
		})
	}
}

// audisp-remote 4.2.2 delivers to the collector over TLS with a pre-shared key: its records are
// those of the identity.
func TestNewestAudispRemoteAndTheCollector(t *testing.T) {
	program := newestTLS(t, "audisp-remote")
	dir := privateDir(t)
	key := pskKey(t, dir, "host-1.key", 0x5a)
	list := filepath.Join(dir, "clients")
	if err := os.WriteFile(list, []byte("host-1 enabled key="+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stock := confFile(t, t.TempDir(), "auditd.conf", map[string]string{"transport": "TLS", "tls_allowed_clients": list})
	c := startCollector(t, harness.CollectorOptions{Store: t.TempDir() + "/store", Args: []string{"--config", stock}})
	l, err := net.Listen("tcp", "127.0.0.1:0") // a name for startNewestRemote; the collector has the port
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := realLog(t, harness.RecordedEnriched(), harness.Make{Records: 1000})
	startNewestRemote(t, program, dir, l, key, sent, map[string]string{"port": strconv.Itoa(c.Port)})
	sameRecords(t, sent, foundAll(t, c, len(sent)))
	if got := found(t, c, "-n", "host-1"); len(got) != len(sent) {
		t.Errorf("%d of %d records are of the identity", len(got), len(sent))
	}
}
