package sink

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// startAlertmanager starts Debian's on a port of its own, with its data in dir.
func startAlertmanager(t *testing.T, program, dir, addr string) *exec.Cmd {
	t.Helper()
	conf := write(t, filepath.Join(dir, "am.yml"), "route: {receiver: none}\nreceivers: [{name: none}]\n", 0o600)
	cmd := exec.Command(program, "--config.file="+conf, "--storage.path="+dir, "--web.listen-address="+addr, "--cluster.listen-address=")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	need.Wait(t, "the Alertmanager is ready", func() bool {
		resp, err := http.Get("http://" + addr + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	return cmd
}

// alertsOf returns what the Alertmanager shows as firing: names and hosts.
func alertsOf(t *testing.T, addr string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/api/v2/alerts")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	var list []struct {
		Labels, Annotations map[string]string
		StartsAt            time.Time
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return err.Error()
	}
	var all []string
	for _, a := range list {
		all = append(all, fmt.Sprint(a.Labels["alertname"], " ", a.Labels["host"], " ", a.Labels["severity"], " ", a.StartsAt.UTC().Format(time.TimeOnly), " ", a.Annotations["value"]))
	}
	return strings.Join(all, "; ")
}

// What fires shows up in a real Alertmanager, once; it goes on there over its restart,
// since it is told again; and it ends when it is over.
func TestAlertmanager(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts an Alertmanager twice")
	}
	program := need.Tool(t, "prometheus-alertmanager")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, dir := ln.Addr().String(), t.TempDir()
	ln.Close()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	cmd := startAlertmanager(t, program, dir, addr)
	end := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	defer func() { end() }()
	s := open(t, load(t, t.TempDir(), map[string]string{"am": "type = alertmanager\nurl = http://" + addr + "\nresend = 1\n"}), t.TempDir())
	n := notice("a", Firing, 0)
	n.Labels["odd name"] = "\xff" // neither a name nor a value that it takes
	s.SetFiring(func() []Notice { return []Notice{n} })
	s.Deliver(one(n))
	s.Deliver(one(n))
	const want = "loss a critical 10:00:00 3 records"
	need.Wait(t, "it fires, once", func() bool { return alertsOf(t, addr) == want })
	end()
	cmd = startAlertmanager(t, program, dir, addr)
	need.Wait(t, "it fires after the restart", func() bool { return alertsOf(t, addr) == want })
	s.SetFiring(nil)
	over := n
	over.State, over.At, over.Ended = Resolved, time.Now(), time.Now()
	s.Deliver(one(over))
	need.Wait(t, "it is over", func() bool { return alertsOf(t, addr) == "" })
}

// A program gets the message; it is killed with all it has started when it takes too long,
// and nothing of the collector's environment is there.
func TestExec(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := func(name, text string) string {
		return "type = exec\ntimeout = 1\nargs = " + dir + "/" + name + "\nprogram = " + write(t, filepath.Join(dir, name+".sh"), "#!/bin/sh\n"+text, 0o755) + "\n"
	}
	if err := tested(t, script("good", `cat >"$1"; env >"$1.env"`)); err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(filepath.Join(dir, "good"))
	if err != nil || !strings.Contains(string(body), `"host":"a"`) {
		t.Errorf("%s %v", body, err)
	}
	env, err := os.ReadFile(filepath.Join(dir, "good.env"))
	if err != nil || strings.Contains(string(env), "HOME=") || !strings.Contains(string(env), "PATH=/usr/sbin") {
		t.Errorf("%s %v", env, err)
	}
	if err := tested(t, script("bad", "echo a reason; exit 3")); err == nil || !strings.Contains(err.Error(), "a reason") {
		t.Error(err)
	}
	if err := tested(t, script("slow", `sleep 77 & echo $! >"$1"; wait`)); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Error(err)
	}
	pid, err := os.ReadFile(filepath.Join(dir, "slow"))
	if err != nil {
		t.Fatal(err)
	}
	need.Wait(t, "its child is killed", func() bool {
		cmdline, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/cmdline")
		return err != nil || len(cmdline) == 0
	})
}

// Syslog gets a line, on the host's socket or over TCP; what a host's name has in it
// makes no other line.
func TestSyslog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	local, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	s := open(t, load(t, t.TempDir(), map[string]string{"x": "type = syslog\nfacility = local3\nsocket = " + path + "\n"}), t.TempDir())
	if err := s.Test(context.Background(), "x", one(notice("a\n<0>evil", Firing, 0))); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := local.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, "<154>") || !strings.Contains(got, `alert=loss state=firing severity=critical host="a <0>evil" value="3 records"`) || strings.Contains(got, "\n") {
		t.Errorf("%q %v", got, err)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		text, err := bufio.NewReader(c).ReadString(0)
		got <- fmt.Sprint(text, " ", err)
	}()
	if err := tested(t, "type = syslog\ntls = no\nserver = "+ln.Addr().String()+"\n"); err != nil {
		t.Fatal(err)
	}
	if text := <-got; !strings.Contains(text, " <26>1 2026-11-29T10:00:00.000000Z collector1 auditfleet-collector ") || !strings.HasSuffix(text, " EOF") {
		t.Errorf("%q", text)
	}
}
