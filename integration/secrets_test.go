package integration

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// Nothing that either program logs, prints or stores has a secret in it: pre-shared keys, tokens,
// keys of certificates, passwords and secrets of sinks. Everything is logged, much of it goes
// wrong, and a server says back what it was sent.
func TestSecretsAreNeverLogged(t *testing.T) {
	t.Parallel()
	dir, bins := t.TempDir(), binaries(t)
	var said strings.Builder
	run := func(args ...string) *harness.Result {
		t.Helper()
		r, err := harness.Run(2*time.Minute, args...)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&said, "%s\n%s\n", r.Stdout, r.Stderr)
		return r
	}
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secrets := map[string]string{
		"the pre-shared key": strings.Repeat("5ec4e7a1", 8), "a wrong pre-shared key": strings.Repeat("0bad4e71", 8),
		"the webhook's secret": "hook-secret-7Qx9-of-some-length", "the webhook's token": "bearer-token-8Rw3", "the mail password": "mail-password-5Tz1", "the alertmanager's password": "am-password-2Lk6",
	}
	secrets["the alertmanager's password as it is sent"] = base64.StdEncoding.EncodeToString([]byte("a:" + secrets["the alertmanager's password"]))
	// Made by the programs: a CA, a certificate, a token.
	ca, tls := dir+"/ca", dir+"/tls"
	run(bins.Collector, "ca", "init", "--dir", ca)
	run(bins.Collector, "ca", "issue", "localhost", "--dir", ca, "--out", tls, "--ip", "127.0.0.1")
	token, err := harness.Run(time.Minute, bins.Collector, "token", "web1", "--dir", ca)
	if err != nil || token.Code != 0 {
		t.Fatalf("%v: %s", err, token.Stderr)
	}
	secrets["the token"] = strings.TrimSpace(string(token.Stdout))
	for what, file := range map[string]string{"the collector's key": tls + "/localhost.key", "the CA's key": ca + "/ca.key"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		secrets[what] = strings.Split(string(text), "\n")[1]
	}
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "%v %v", r.Header, r.URL)
	}))
	defer echo.Close()
	write("sinks/hook.conf", "active = yes\ntype = webhook\nurl = "+echo.URL+"\nsecret_file = "+write("hook.secret", secrets["the webhook's secret"]+"\n", 0o600)+"\ntoken_file = "+write("hook.token", secrets["the webhook's token"]+"\n", 0o600)+"\n", 0o600)
	write("sinks/mail.conf", "active = yes\ntype = mail\nserver = localhost:1\ntls = no\nfrom = a@localhost\nto = b@localhost\nuser = a\npassword_file = "+write("mail.password", secrets["the mail password"]+"\n", 0o600)+"\n", 0o600)
	write("sinks/am.conf", "active = yes\ntype = alertmanager\nurl = "+echo.URL+"\nuser = a\npassword_file = "+write("am.password", secrets["the alertmanager's password"]+"\n", 0o600)+"\n", 0o600)
	psk, secured := port(t), port(t)
	conf := write("collector.conf", fmt.Sprintf("log_level = debug\nhttp =\nlisten = 127.0.0.1:%d\ntransport = tls\ntls_psk_identity = host-1\ntls_psk_file = %s\n"+
		"listen_tls = 127.0.0.1:%d\ntls_ca = %s/ca.crt\ntls_cert = %s/localhost.crt\ntls_key = %s/localhost.key\nenroll_ca = %s\nalert_sinks = %s/sinks\n",
		psk, write("psk", secrets["the pre-shared key"]+"\n", 0o400), secured, tls, tls, tls, ca, dir), 0o600)
	if r := run(bins.Collector, "serve", "--check", "--config", conf, "--store", dir+"/s"); r.Code != 0 {
		t.Fatalf("%s", r.Stderr)
	}
	c, err := harness.Start(harness.Spec{Name: "collector", Args: []string{bins.Collector, "serve", "--config", conf, "--store", dir + "/s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	if !harness.Poll(time.Minute, func() bool { return strings.Contains(c.Output(), "collector: ready") || c.Exited() }) || c.Exited() {
		t.Fatalf("not ready:\n%s", c.Output())
	}
	// A token that is spent is refused, a wrong key, too.
	tokenFile := write("token", secrets["the token"]+"\n", 0o600)
	for _, out := range []string{dir + "/first", dir + "/second"} {
		run(bins.Forwarder, "enroll", "--server", fmt.Sprintf("localhost:%d", secured), "--token-file", tokenFile, "--out", out)
	}
	if _, err := os.Stat(dir + "/first/web1.key"); err != nil {
		t.Errorf("the token got no certificate: %v\n%s", err, said.String())
	}
	log := write("in.log", "node=host-1 type=USER msg=audit(1764460000.000:1): x=1\n", 0o600)
	for i, key := range []string{write("wrong", secrets["a wrong pre-shared key"]+"\n", 0o400), dir + "/psk"} {
		remote := write(fmt.Sprintf("remote%d.conf", i), fmt.Sprintf("remote_server = 127.0.0.1\nport = %d\ntransport = tls\ntls_psk_identity = host-1\ntls_psk_file = %s\n", psk, key), 0o600)
		r := run(bins.Forwarder, "--log-level", "trace", "--source", log, "--remote-config", remote, "--spool", fmt.Sprintf("%s/spool%d", dir, i), "--report", dir+"/report", "--drain-timeout", []string{"2s", "1m"}[i])
		if i == 1 && r.Code != 0 {
			t.Errorf("with the right key: %s", r.Stderr)
		}
	}
	tried := run(bins.Collector, "alerts", "test", "--store", dir+"/s")
	for _, sink := range []string{"hook", "mail", "am"} {
		if text := string(tried.Stdout) + string(tried.Stderr); !strings.Contains(text, sink) {
			t.Errorf("the sink %s was not tried: %s", sink, text)
		}
	}
	run(bins.Collector, "search", "--store", dir+"/s", "--format", "raw")
	if err := c.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait(time.Minute)
	said.WriteString(c.Output())
	for what, secret := range secrets {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if i := strings.Index(said.String(), form); i >= 0 {
				t.Errorf("%s is logged: …%s…", what, said.String()[max(0, i-200):min(len(said.String()), i+100)])
			}
		}
	}
}

// port returns a port that is free.
func port(t *testing.T) int {
	t.Helper()
	n, err := need.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
