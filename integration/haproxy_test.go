package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// deployHAProxy returns what docs/deploy.md has pasted for HAProxy: its file, and the flags of a collector.
func deployHAProxy(t *testing.T) (conf string, flags []string) {
	t.Helper()
	text, err := os.ReadFile(need.Source(t, "docs/deploy.md"))
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile("(?s)```haproxy\n(.*?)```").FindStringSubmatch(string(text))
	line := regexp.MustCompile(`(?m)^collector serve (.*--tls-proxy-protocol-from(?:.*\\\n)*.*)$`).FindStringSubmatch(string(text))
	if len(file) != 2 || len(line) != 2 {
		t.Fatal("docs/deploy.md has no file of HAProxy, or no command of a collector behind it")
	}
	return file[1], strings.Fields(strings.ReplaceAll(line[1], "\\\n", " "))
}

// Two collectors stand behind HAProxy as README.md has it pasted: what a host sends comes to one of them, as from its own address.
func TestReadmeHAProxy(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(need.Source(t, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile("(?s)```haproxy\n(.*?)```").FindStringSubmatch(string(text))
	if len(file) != 2 || !strings.Contains(string(text), "`collector serve --listen :60 --proxy-protocol-from 10.0.0.5 --http 10.0.0.11:8060`") {
		t.Fatal("README.md has no file of HAProxy, or no command of a collector behind it")
	}
	front := freePort(t)
	conf := replaced(t, file[1], "bind :60\n", fmt.Sprintf("bind 127.0.0.1:%d\n", front))
	var all []*harness.Collector
	for _, addr := range []string{"10.0.0.11", "10.0.0.12"} {
		c := startCollector(t, harness.CollectorOptions{Port: freePort(t), Args: []string{"--proxy-protocol-from", "127.0.0.1"}})
		_, web, _ := strings.Cut(c.HTTP, ":")
		conf = replaced(t, conf, addr+":60 check port 8060 ", fmt.Sprintf("127.0.0.1:%d check port %s ", c.Port, web))
		all = append(all, c)
	}
	startHAProxy(t, "readme", conf)
	dir := t.TempDir()
	log := filepath.Join(dir, "audit.log")
	want := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 3, Records: 1000, Nodes: []string{"web1"}})
	writeFile(t, log, strings.Join(want, "\n")+"\n")
	r, err := harness.Run(2*time.Minute, binaries(t).Forwarder, "run", "--remote", fmt.Sprintf("127.0.0.1:%d", front), "--source", log, "--spool", dir+"/spool", "--state", dir+"/state")
	if err != nil || r.Code != 0 {
		t.Fatalf("%v: %s", err, r.Stderr)
	}
	found := 0
	for _, c := range all {
		r, err := c.Command(time.Minute, "search", "-n", "web1", "--raw", "--no-coverage-note")
		if err != nil {
			t.Fatal(err)
		}
		found += strings.Count(string(r.Stdout), "\n")
	}
	if found != len(want) {
		t.Errorf("%d records are found, %d were sent", found, len(want))
	}
}

// startHAProxy starts one with a file, and returns when it listens on the ports.
func startHAProxy(t *testing.T, name, conf string) *harness.Proc {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".cfg")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := need.Tool(t, "haproxy")
	if r, err := harness.Run(time.Minute, bin, "-c", "-f", path); err != nil || r.Code != 0 || strings.Contains(string(r.Stderr), "WARNING") {
		t.Fatalf("haproxy does not take the file: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	p, err := harness.Start(harness.Spec{Name: "haproxy " + name, Args: []string{bin, "-db", "-f", path}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("output of haproxy %s:\n%s", name, p.Output())
		}
	})
	return p
}

// behindHAProxy is a collector as docs/deploy.md has it, with the test's addresses.
func behindHAProxy(t *testing.T, flags []string, pki string) (c *harness.Collector, grpc int) {
	t.Helper()
	grpc = freePort(t)
	o := harness.CollectorOptions{Port: freePort(t)}
	for i := 0; i < len(flags); i += 2 {
		value := flags[i+1]
		switch flags[i] {
		case "--listen", "--http": // the harness's own
			continue
		case "--proxy-protocol-from", "--tls-proxy-protocol-from":
			value = "127.0.0.1"
		case "--grpc":
			value = fmt.Sprintf("127.0.0.1:%d", grpc)
		case "--tls-ca":
			value = filepath.Join(pki, "ca.crt")
		case "--tls-cert", "--tls-key":
			value = filepath.Join(pki, "collector"+filepath.Ext(value))
		default:
			t.Fatalf("docs/deploy.md has a collector behind HAProxy started with %s, which this test does not know", flags[i])
		}
		o.Args = append(o.Args, flags[i], value)
	}
	return startCollector(t, o), grpc
}

// Two collectors stand behind HAProxy as docs/deploy.md has it pasted: a stock audisp-remote, a forwarder by its protocol
// and one by gRPC send through it, and go on when the collector that has them is killed. Records have the hosts' own
// addresses. What is acknowledged is with one of the two, and with none of them twice.
func TestHAProxyInFront(t *testing.T) {
	t.Parallel()
	need.Root(t)
	need.Stock(t, "audisp-remote")
	need.Tool(t, "haproxy")
	conf, flags := deployHAProxy(t)
	pki := pkiOf(t, "app1")
	front, frontGRPC := freePort(t), freePort(t)
	conf = replaced(t, conf, "bind :60\n", fmt.Sprintf("bind 127.0.0.1:%d\n", front))
	conf = replaced(t, conf, "bind :61\n", fmt.Sprintf("bind 127.0.0.1:%d\n", frontGRPC))
	var all []*harness.Collector
	for _, addr := range []string{"10.0.0.11", "10.0.0.12"} {
		c, grpc := behindHAProxy(t, flags, pki)
		all = append(all, c)
		_, web, _ := strings.Cut(c.HTTP, ":")
		conf = replaced(t, conf, addr+":60 check port 8060\n", fmt.Sprintf("127.0.0.1:%d check port %s\n", c.Port, web))
		conf = replaced(t, conf, addr+":61 check port 8060\n", fmt.Sprintf("127.0.0.1:%d check port %s\n", grpc, web))
	}
	startHAProxy(t, "front", "global\n log stdout format raw local0\n"+conf) // Debian's file has a global part

	// Hosts of one machine have addresses of their own by another HAProxy.
	hosts := map[string]string{"web1": "127.0.0.7", "db1": "127.0.0.8", "app1": "127.0.0.9"}
	ports := map[string]int{}
	own := "defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
	for host, addr := range hosts {
		ports[host] = freePort(t)
		to := front
		if host == "app1" {
			to = frontGRPC
		}
		own += fmt.Sprintf("listen %s\n bind 127.0.0.1:%d\n server front 127.0.0.1:%d source %s\n", host, ports[host], to, addr)
	}
	startHAProxy(t, "hosts", own)

	const each = 4000
	sent, pipes := map[string][]string{}, map[string]*io.PipeWriter{}
	senders := map[string]*harness.Proc{}
	for host := range hosts {
		sent[host] = realLog(t, harness.RecordedRaw(), harness.Make{Records: each, Nodes: []string{host}})[:each]
		in, w := io.Pipe()
		pipes[host] = w
		var err error
		dir := t.TempDir()
		switch host {
		case "web1":
			senders[host], err = harness.StartAudispRemote(dir, ports[host], in, map[string]string{"network_failure_action": "warn_once"})
		case "db1":
			senders[host], err = harness.StartForwarder(binaries(t), dir, fmt.Sprintf("127.0.0.1:%d", ports[host]), "stdin", in)
		case "app1":
			senders[host], err = harness.StartForwarder(binaries(t), dir, fmt.Sprintf("localhost:%d", ports[host]), "stdin", in, append(tlsArgs(pki, host), "--transport", "grpc")...)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close(); senders[host].Kill() })
	}
	say := func(from, to int) {
		for host, w := range pipes {
			if _, err := io.Copy(w, feed(sent[host][from:to])); err != nil {
				t.Fatal(err)
			}
		}
	}
	// reached says whether each host has n records at least, at both collectors together.
	reached := func(n int) bool {
		for host := range hosts {
			have := 0
			for _, c := range all {
				if !c.Exited() {
					have += len(found(t, c, "-n", host))
				}
			}
			if have < n {
				return false
			}
		}
		return true
	}
	say(0, each/2)
	need.Wait(t, "the first half is stored", func() bool { return reached(each / 2) })
	addressesBehind(t, all, hosts)

	// The one that has the stock sender's records is killed: HAProxy notices, and all go on with the other.
	lost := 0
	if len(found(t, all[0], "-n", "web1")) == 0 {
		lost = 1
	}
	all[lost].Kill()
	say(each/2, each)
	for host, w := range pipes {
		w.Close()
		if err := senders[host].Wait(2 * time.Minute); err != nil {
			t.Error(err)
		}
	}
	again, err := harness.StartCollector(binaries(t), harness.CollectorOptions{Store: all[lost].Store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Kill)
	all[lost] = again
	need.Wait(t, "all is stored", func() bool { return reached(each) })
	addressesBehind(t, all, hosts)
	for host, lines := range sent {
		stored := map[string]bool{}
		for i, c := range all {
			here := map[string]bool{}
			for _, line := range found(t, c, "-n", host) {
				if here[line] {
					t.Errorf("collector %d has a record of %s twice: %s", i, host, line)
				}
				here[line], stored[line] = true, true
			}
		}
		missing := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return stored[line] })
		if len(missing) > 0 || len(stored) != len(lines) {
			t.Errorf("%s: of %d records %d are missing and %d are stored", host, len(lines), len(missing), len(stored))
		}
	}
}

// addressesBehind fails unless all collectors know the hosts by their own addresses, and nobody by the proxy's.
func addressesBehind(t *testing.T, all []*harness.Collector, hosts map[string]string) {
	t.Helper()
	for i, c := range all {
		r, err := c.Command(time.Minute, "hosts", "--format", "json")
		if err != nil {
			t.Fatal(err)
		}
		var rows []struct {
			Host      string
			Addresses []string
		}
		if err := json.Unmarshal(r.Stdout, &rows); err != nil {
			t.Fatalf("%v\n%s", err, r.Stdout)
		}
		for _, row := range rows {
			if want := hosts[row.Host]; want != "" && !slices.Equal(row.Addresses, []string{want}) {
				t.Errorf("collector %d knows %s by %q, want %s", i, row.Host, row.Addresses, want)
			}
		}
		if out := foundRaw(t, c, "-m", "DAEMON_ACCEPT"); strings.Contains(out, "addr=127.0.0.1 ") {
			t.Errorf("collector %d has connections of the proxy's own:\n%s", i, out)
		}
	}
}
