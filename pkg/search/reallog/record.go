package reallog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// Config says how the log is written.
type Config struct {
	Enriched bool   // log_format = ENRICHED instead of RAW
	Node     string // name_format = user with this name; empty is none
	// During is called while the daemon runs, after the workload; nil is nothing.
	During func()
}

// Record makes this machine's kernel audit the workload and returns the log a
// stock auditd wrote of it. It skips the test where need.Kernel does. What it
// changes in the kernel (rules, enabled, registered pid) is put back when it
// returns, also when it fails.
func Record(t testing.TB, cfg Config) []byte {
	t.Helper()
	need.Kernel(t)
	auditd, auditctl := need.Stock(t, "auditd"), need.Stock(t, "auditctl")
	dir, err := os.MkdirTemp("", "reallog")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the workload's other users must reach it
		t.Fatal(err)
	}
	rec := &recorder{t: t, cfg: cfg, dir: dir, auditctl: auditctl}
	rec.prepare()
	defer rec.restore()
	rec.startDaemon(auditd)
	rec.addRules()
	rec.runWorkload()
	rec.runAccounts()
	rec.removeRules()
	if cfg.During != nil {
		cfg.During()
	}
	return rec.stopDaemon()
}

type recorder struct {
	t        testing.TB
	cfg      Config
	dir      string
	auditctl string
	daemon   *exec.Cmd
	output   bytes.Buffer
	enabled  string
	rules    [][]string // added, to be removed
}

// ctl runs auditctl in the test's folder, which its CWD records name.
func (r *recorder) ctl(args ...string) ([]byte, error) {
	cmd := exec.Command(r.auditctl, args...)
	cmd.Dir = r.dir
	return cmd.CombinedOutput()
}

func (r *recorder) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *recorder) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}

func (r *recorder) prepare() {
	for _, d := range []string{"etc/plugins.d", "run", "work", "work/open", "bin"} {
		r.must(os.MkdirAll(r.path(d), 0o755))
	}
	r.must(os.Chmod(r.path("work/open"), 0o777))
	r.must(os.WriteFile(r.path("work/secret"), []byte("s"), 0o600))
	format, name := "RAW", "name_format = NONE\n"
	if r.cfg.Enriched {
		format = "ENRICHED"
	}
	if r.cfg.Node != "" {
		name = "name_format = USER\nname = " + r.cfg.Node + "\n"
	}
	conf := "local_events = yes\nwrite_logs = yes\nlog_file = " + r.path("audit.log") +
		"\nlog_format = " + format + "\n" + name + "flush = NONE\nmax_log_file = 100\nmax_log_file_action = IGNORE\n" +
		"space_left = 2\nspace_left_action = IGNORE\nadmin_space_left = 1\nadmin_space_left_action = IGNORE\n" +
		"disk_full_action = IGNORE\ndisk_error_action = IGNORE\nplugin_dir = " + r.path("etc/plugins.d") + "\n"
	r.must(os.WriteFile(r.path("etc/auditd.conf"), []byte(conf), 0o640))
	exe, err := os.Executable()
	r.must(err)
	in, err := os.Open(exe)
	r.must(err)
	defer in.Close()
	out, err := os.OpenFile(r.path("bin/workload"), os.O_CREATE|os.O_WRONLY, 0o755)
	r.must(err)
	_, err = io.Copy(out, in)
	r.must(err)
	r.must(out.Close())
	r.enabled = r.status("enabled")
	if pid := r.status("pid"); pid != "0" {
		r.t.Fatalf("an audit daemon is registered already: pid %s", pid)
	}
}

// status returns one setting of the kernel as auditctl -s prints it.
func (r *recorder) status(key string) string {
	out, err := r.ctl("-s")
	if err != nil {
		r.t.Fatalf("auditctl -s: %v: %s", err, out)
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			return v
		}
	}
	r.t.Fatalf("auditctl -s says no %s: %s", key, out)
	return ""
}

func (r *recorder) startDaemon(auditd string) {
	r.daemon = exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$1" /run && exec "$2" -n -c "$3"`,
		"sh", r.path("run"), auditd, r.path("etc"))
	r.daemon.Dir = r.dir
	r.daemon.Stdout, r.daemon.Stderr = &r.output, &r.output
	r.must(r.daemon.Start())
	for range 100 {
		if r.status("pid") != "0" && r.status("enabled") == "1" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = r.daemon.Process.Kill()
	_ = r.daemon.Wait()
	r.t.Fatalf("auditd did not register: %s", r.output.String())
}

func (r *recorder) addRules() {
	exe, dir := "exe="+r.path("bin/workload"), "dir="+r.path("work")
	for _, rule := range [][]string{
		{"-F", "arch=b64", "-S", "open,openat,openat2,creat,truncate", "-F", dir, "-F", "key=opens"},
		{"-F", "arch=b64", "-S", "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat",
			"-F", dir, "-F", "key=names", "-F", "key=second key"},
		{"-F", "arch=b64", "-S", "chmod,fchmodat,chown,lchown,fchownat,setxattr", "-F", dir, "-F", "key=perm_mod"},
		{"-F", "arch=b64", "-S", "execve", "-F", exe, "-F", "key=exec-by-workload"},
		{"-F", "arch=b64", "-S", "connect,bind,sendto,socketpair,pipe2,mq_open,capset,kill,setuid,bpf", "-F", exe, "-F", "key=ipc and net"},
		{"-F", "arch=b64", "-S", "mmap", "-F", exe, "-F", "a2=1", "-F", "a3=2", "-F", "key=maps"},
		{"-F", "arch=b64", "-S", "prctl,exit_group", "-F", exe},
	} {
		args := append([]string{"-a", "always,exit"}, rule...)
		if out, err := r.ctl(args...); err != nil {
			r.t.Logf("auditctl %q: %v: %s (left out)", args, err, out)
			continue
		}
		r.rules = append(r.rules, append([]string{"-d", "always,exit"}, rule...))
	}
}

func (r *recorder) removeRules() {
	for _, args := range r.rules {
		if out, err := r.ctl(args...); err != nil {
			r.t.Errorf("auditctl %q: %v: %s", args, err, out)
		}
	}
	r.rules = nil
}

func (r *recorder) runWorkload() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.path("bin/workload"))
	cmd.Dir = r.path("work")
	cmd.Env = append(os.Environ(), workloadEnv+"=all", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("workload: %v: %s", err, out)
	}
}

// accounts is run in a mount namespace whose /etc is a copy: accounts, groups and
// logins that exist there only, whose programs and PAM modules write USER_*,
// ADD_*, CRED_* and LOGIN records.
const accounts = `
cp -a /etc "$1/etc2" || [ -s "$1/etc2/shadow" ] || exit 9 # other tests' folders in /etc come and go meanwhile
mount --bind "$1/etc2" /etc && mount -t tmpfs tmpfs /var/log || exit 9
useradd -M -u 4001 -s /bin/sh fleetuser
groupadd -g 4002 fleetgroup
usermod -G fleetgroup fleetuser
echo 'fleetuser:secret' | chpasswd
su fleetuser -c "cat $1/work/secret; true" </dev/null
su fleetuser -c 'echo wrong | su root -c id' </dev/null
su nosuchuser </dev/null
groupdel fleetgroup
userdel fleetuser
true
`

func (r *recorder) runAccounts() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", "-c", accounts, "sh", r.dir)
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("accounts: %v: %s", err, out)
	}
}

func (r *recorder) stopDaemon() []byte {
	r.must(r.daemon.Process.Signal(syscall.SIGTERM)) // unshare and sh have become auditd itself
	done := make(chan struct{})
	go func() {
		_ = r.daemon.Wait() // its exit status is the signal's
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = r.daemon.Process.Kill()
		<-done
	}
	r.daemon = nil
	log, err := os.ReadFile(r.path("audit.log"))
	r.must(err)
	if len(log) == 0 {
		r.t.Fatalf("auditd wrote no log: %s", r.output.String())
	}
	return log
}

func (r *recorder) restore() {
	r.removeRules()
	if r.daemon != nil {
		_ = r.daemon.Process.Kill()
		_ = r.daemon.Wait()
	}
	if r.enabled != "" {
		if out, err := r.ctl("-e", r.enabled); err != nil {
			r.t.Error(fmt.Errorf("putting enabled=%s back: %w: %s", r.enabled, err, out))
		}
	}
}
