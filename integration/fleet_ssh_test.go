package integration

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// sshHost is a host of a fleet's that is reached by a real ssh: an sshd of its own, with a key of its own, at an address of its own.
type sshHost struct {
	f    *fleet
	name string
	addr string
	port int
	key  string // its public one
}

func newSSHHost(t *testing.T, f *fleet, i int) *sshHost {
	t.Helper()
	h := &sshHost{f: f, name: fmt.Sprintf("h%d", i), addr: fmt.Sprintf("127.0.7.%d", i), port: port(t)}
	if err := os.MkdirAll(filepath.Join(f.dir, "hosts", h.name, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := f.run(nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "hosts/"+h.name+"/key"); err != nil {
		t.Fatal(out, err)
	}
	public, err := os.ReadFile(filepath.Join(f.dir, "hosts", h.name, "key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	h.key = strings.Join(strings.Fields(string(public))[:2], " ")
	return h
}

// start starts its sshd, for which each command is one in the host's own folders.
func (h *sshHost) start(t *testing.T, sshd string) {
	t.Helper()
	dir := filepath.Join(h.f.dir, "hosts", h.name)
	h.f.write(t, map[string]string{"hosts/" + h.name + "/sshd_config": fmt.Sprintf(`Port %d
ListenAddress %s
HostKey %s/key
PidFile none
AuthorizedKeysFile %s/id.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
ForceCommand exec env PATH=%s/path:$PATH ETC=%s/etc SPOOL=%s/spool sh -c "$SSH_ORIGINAL_COMMAND"
`, h.port, h.addr, dir, h.f.dir, h.f.dir, dir, dir)})
	p, err := harness.Start(harness.Spec{Name: "sshd " + h.name, Args: []string{sshd, "-D", "-e", "-f", dir + "/sshd_config"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if !harness.Poll(time.Minute, func() bool { return strings.Contains(p.Output(), "Server listening") }) {
		t.Fatalf("sshd of %s: %s", h.name, p.Output())
	}
}

// TestRolloutOverSSH does some hosts at once over a real ssh, some of which fail, each in its way, and are done once they are mended.
func TestRolloutOverSSH(t *testing.T) {
	t.Parallel()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("there is no sshd on this machine") // the stock peers do without: to install one would start it with the machine
	}
	if _, err := os.Stat("/run/sshd"); os.IsNotExist(err) && os.Getuid() == 0 {
		if err := os.Mkdir("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove("/run/sshd") })
	}
	f := newFleet(t)
	if out, err := f.run(nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "id"); err != nil {
		t.Fatal(out, err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	var hosts []*sshHost
	var config, list strings.Builder
	for i := 1; i <= need.Size(12, 8); i++ {
		h := newSSHHost(t, f, i)
		hosts = append(hosts, h)
		fmt.Fprintf(&config, "Host %s\n  HostName %s\n  Port %d\n  HostKeyAlias %s\n", h.name, h.addr, h.port, h.name)
		fmt.Fprintln(&list, h.name)
		if i > 1 {
			h.start(t, sshd)
		}
	}
	fmt.Fprintf(&config, "Host *\n  IdentityFile %s/id\n  UserKnownHostsFile %s/known\n  GlobalKnownHostsFile /dev/null\n  LogLevel ERROR\n", f.dir, f.dir)
	// knows writes the keys by which hosts are known; one of them may be another host's, and one may be missing.
	knows := func(changed, unknown string) {
		var keys strings.Builder
		for i, h := range hosts {
			key := h.key
			if h.name == changed {
				key = hosts[(i+1)%len(hosts)].key
			}
			if h.name != unknown {
				fmt.Fprintln(&keys, h.name, key)
			}
		}
		f.write(t, map[string]string{"known": keys.String()})
	}
	if err := os.Mkdir(filepath.Join(f.dir, "hosts/h8/etc/tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.write(t, map[string]string{"hosts/h8/etc/tls/h8.key": "of an enrolment that was killed",
		"ssh_config": config.String(), "hosts.txt": list.String(),
		"hosts/h4/asks": "", "hosts/h5/broken": "", "hosts/h6/sick": "fail    daemon: \x1b]0;a title\x07\x1b[2Jnone\nfail    another\n",
		"hosts/h7/etc/auditd.conf": "log_file = " + f.dir + "/hosts/h7/audit.log\n", "hosts/h7/etc/forwarder.conf": "# mine\n"})
	knows("h2", "h3")
	ssh := "SSH=/usr/bin/ssh -F " + f.dir + "/ssh_config -o BatchMode=yes -o ConnectTimeout=60 -l " + me.Username
	roll := func() (string, error) { return f.rollout(t, "hosts.txt", ssh, "SUDO=sudo -n", "PARALLEL=20") }

	said, err := roll()
	for _, want := range []string{
		"h1: FAILED: ssh: connect to host " + hosts[0].addr + " port", "h2: FAILED: Host key verification failed.\n", "h3: FAILED: Host key verification failed.\n",
		"h4: FAILED: sudo: a password is required\n", "h5: FAILED: the forwarder does not start; auditd is as it was\n",
		"h6: FAILED: it runs, but: fail    daemon: ]0;a title[2Jnone\n", "h7: done\n", "h8: done\n", fmt.Sprintf("%d of %d hosts are done\n", len(hosts)-6, len(hosts)),
	} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %s", want)
		}
	}
	if err == nil || t.Failed() {
		t.Fatalf("%v\n%s\n%s", err, said, logsOf(f.dir))
	}
	// A host on which the forwarder does not start has its auditd again.
	asked, err := os.ReadFile(filepath.Join(f.dir, "hosts/h5/asked"))
	if err != nil || !strings.HasSuffix(string(asked), "systemctl disable auditfleet-forwarder.service\nsystemctl enable auditd.service\nsystemctl start auditd.service\n") {
		t.Errorf("%v: h5 was asked for\n%s", err, asked)
	}
	// What is not used is no token any more.
	if tokens, err := f.run(f.env, "collector", "token", "--list", "--dir", "ca"); err != nil || strings.Contains(tokens, " valid ") {
		t.Errorf("%v: tokens that are left:\n%s", err, tokens)
	}

	hosts[0].start(t, sshd)
	knows("", "")
	for _, mended := range []string{"h4/asks", "h5/broken", "h6/sick"} {
		if err := os.Remove(filepath.Join(f.dir, "hosts", mended)); err != nil {
			t.Fatal(err)
		}
	}
	said, err = roll()
	if err != nil || strings.Count(said, ": done\n") != 6 || !strings.HasSuffix(said, fmt.Sprintf("\n%d of %d hosts are done\n", len(hosts), len(hosts))) {
		t.Fatalf("%v\n%s\n%s", err, said, logsOf(f.dir))
	}
	for _, h := range hosts {
		before := "# the package's\n"
		if h.name == "h7" {
			before = "# mine\n"
		}
		f.has(t, h.name, before)
	}
}
