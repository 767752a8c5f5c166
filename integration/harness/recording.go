package harness

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// A jail is a folder with copies of everyday programs in it. Rules on those
// copies (exe=, dir=) touch nothing else on the machine, and what is recorded
// shows the paths as they are inside: /usr/bin/ls.
type jail struct {
	root  string
	tools []string // paths inside
}

var jailTools = []string{"sh", "ls", "cat", "cp", "mv", "rm", "touch", "ln", "chmod", "find", "grep", "sed", "id", "stat", "tar", "gzip"}

func makeJail(root, work string) (*jail, error) {
	j := &jail{root: root}
	for _, dir := range []string{"usr/bin", "usr/sbin", "etc", "root/.ssh", "home/alice", "home/bob", "srv/data", "run", "tmp", "var/lib/private", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return nil, err
		}
	}
	for link, to := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			return nil, err
		}
	}
	for _, tool := range jailTools {
		from, err := exec.LookPath(tool)
		if err != nil {
			continue // not on this machine: one program less
		}
		inside := "/usr/bin/" + tool
		if err := j.copyProgram(from, inside); err != nil {
			return nil, err
		}
		j.tools = append(j.tools, inside)
	}
	for _, name := range []string{"/usr/sbin/backupd", "/usr/sbin/httpd"} {
		if err := j.copyProgram(work, name); err != nil {
			return nil, err
		}
		j.tools = append(j.tools, name)
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/srv/data:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n" +
			"alice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\ncarol:x:1002:1002::/:/bin/sh\nbackup:x:1003:1003::/:/bin/sh\n",
		"etc/group": "root:x:0:\nwww-data:x:33:\nalice:x:1000:\nbob:x:1001:\ncarol:x:1002:\nbackup:x:1003:\nnogroup:x:65534:\n", "etc/shadow": "root:*:1::::::\n",
		"root/.ssh/id_ed25519": "no key\n", "var/lib/private/key.pem": "no key\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	for name, mode := range map[string]os.FileMode{
		"etc/shadow": 0o600, "root/.ssh": 0o700, "var/lib/private": 0o700,
		"home/alice": 0o777, "home/bob": 0o777, "srv/data": 0o777, "tmp": 0o777,
	} {
		if err := os.Chmod(filepath.Join(root, name), mode); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// copyProgram copies a program and the libraries ldd names.
func (j *jail) copyProgram(from, inside string) error {
	real, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	if err := j.copyFile(real, inside, 0o755); err != nil {
		return err
	}
	// ldd fails on a static program, which needs nothing.
	out, _ := exec.Command("ldd", real).Output()
	for _, word := range strings.Fields(string(out)) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		if _, err := os.Stat(filepath.Join(j.root, word)); err == nil {
			continue
		}
		if err := j.copyFile(word, word, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (j *jail) copyFile(from, inside string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	to := filepath.Join(j.root, inside)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}

// rules are what the recording watches.
func (j *jail) rules() [][]string {
	key := func(k string) []string { return []string{"-k", KeyPrefix + k} }
	with := func(words string, k string) []string { return append(strings.Fields(words), key(k)...) }
	var rules [][]string
	for _, tool := range j.tools {
		rules = append(rules, with("always,exit -F arch=b64 -S execve -F exe="+j.root+tool, "exec"))
	}
	for _, d := range []string{"httpd", "backupd"} {
		rules = append(rules, with("always,exit -F arch=b64 -S connect -F exe="+j.root+"/usr/sbin/"+d, "net"))
	}
	rules = append(rules,
		with("always,exit -F arch=b64 -S openat -F exit=-EACCES -F dir="+j.root, "denied"),
		with("always,exit -F arch=b64 -S openat -F exit=-EPERM -F dir="+j.root, "denied"),
		with("always,exit -F dir="+j.root+"/etc -F perm=wa", "identity"),
		append(with("always,exit -F arch=b64 -S fchmodat -F dir="+j.root+"/srv", "perm"), key("mode")...),
		with("always,exit -F arch=b64 -S renameat,rename,renameat2,unlinkat,mkdirat,symlinkat,truncate -F dir="+j.root+"/srv", "delete"),
		with("always,exit -F dir="+j.root+"/home -F perm=rwa", "home"),
	)
	return rules
}

// session is one user's work; it runs to its end, whatever it thinks of it. All
// is done by children of a shell: the kernel remembers the command line of a
// process from its first event on, which is before our own exec.
type session struct {
	auid, uid int
	cd        string
	argv      []string
}

func sessions(port int) []session {
	sh := func(auid, uid int, cd, script string) session {
		return session{auid, uid, cd, []string{"/usr/bin/sh", "-c", script}}
	}
	return []session{
		sh(1000, 1000, "/home/alice", `ls -la; touch 'my notes.txt' todo; cp todo todo.bak; cat todo /etc/shadow; mv todo done; id; rm -f done todo.bak`),
		sh(1001, 1001, "/home/bob", `find . -name '*.txt'; grep -r key . ; tar cf b.tar . ; gzip -f b.tar; ls -l /root; cat /var/lib/private/key.pem; rm -f b.tar.gz`),
		sh(1000, 0, "/etc", `touch passwd.lock; cp passwd passwd-; sed -n 1p passwd; chmod 644 group; mv passwd.lock hosts; rm -f passwd- hosts; stat group`),
		sh(1002, 33, "/srv/data", `touch 'space name' x; chmod 600 x; ln -s x y; mv x z; rm -f y z 'space name'; cat /etc/shadow`),
		sh(-1, 33, "/srv/data", `/usr/sbin/httpd mix -dir /srv/data/www -rounds 3 -port `+strconv.Itoa(port)+`; true`),
		sh(1003, 1003, "/srv/data", `/usr/sbin/backupd mix -dir /srv/data/backup -rounds 2 -port `+strconv.Itoa(port)+`; true`),
	}
}

// Record makes a log of real events with the stock auditd: programs run, files
// opened, denied, renamed and removed, sockets connected, and what su writes.
// format is RAW or ENRICHED. The caller holds the lock of kernel tests.
//
// In the text, the prefix of test keys is taken off; all else is as the kernel
// and auditd wrote it.
func Record(dir string, bins *Binaries, format string, rounds int) (text []byte, returned error) {
	j, err := makeJail(filepath.Join(dir, "jail"), bins.Work)
	if err != nil {
		return nil, fmt.Errorf("make a folder of programs: %w", err)
	}
	k, err := OpenKernel()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := k.Close(); err != nil && returned == nil {
			returned = err
		}
	}()
	// Enriched records show the users of the recording, not of this machine.
	daemon, err := StartAuditdDaemon(filepath.Join(dir, "auditd"), map[string]string{"log_format": format},
		[2]string{j.root + "/etc/passwd", "/etc/passwd"}, [2]string{j.root + "/etc/group", "/etc/group"})
	if err != nil {
		return nil, err
	}
	defer daemon.Kill()
	if err := k.auditctl("-b", "8192"); err != nil {
		return nil, err
	}
	for _, rule := range j.rules() {
		if err := k.Add(rule...); err != nil {
			return nil, err
		}
	}
	port, err := need.FreePort()
	if err != nil {
		return nil, err
	}
	for range rounds {
		for _, s := range sessions(port) {
			args := []string{bins.Work, "as", "-auid", strconv.Itoa(s.auid), "-uid", strconv.Itoa(s.uid), "-gid", strconv.Itoa(s.uid), "-root", j.root, "-cd", s.cd}
			if r, err := Run(time.Minute, append(args, s.argv...)...); err != nil {
				return nil, err
			} else if bytes.HasPrefix(r.Stderr, []byte("work:")) {
				return nil, fmt.Errorf("a session of the recording failed: %s", r.Stderr)
			}
		}
		// What user space writes: su asks PAM, and PAM writes of it.
		if _, err := Run(time.Minute, "su", "nobody", "-s", "/bin/sh", "-c", "true"); err != nil {
			return nil, err
		}
	}
	if err := k.RemoveRules(); err != nil {
		return nil, err
	}
	time.Sleep(200 * time.Millisecond)
	if err := daemon.Terminate(time.Minute); err != nil {
		return nil, err
	}
	lines, err := daemon.Lines()
	if err != nil {
		return nil, err
	}
	return cleanRecording(lines, dir), nil
}

// cleanRecording drops the events of the test's own set-up (rules added, folders
// of the test touched) and takes the prefix off the keys; two keys of one rule
// come in hex.
func cleanRecording(lines []string, dir string) []byte {
	own := func(line string) bool {
		return strings.HasPrefix(line, "type=CONFIG_CHANGE") || strings.Contains(line, `comm="audit`) ||
			strings.Contains(line, dir) || strings.Contains(line, fmt.Sprintf("%X", dir))
	}
	drop := map[string]bool{}
	for _, line := range lines {
		if own(line) {
			drop[stamp(line)] = true
		}
	}
	var out bytes.Buffer
	hexPrefix := fmt.Sprintf("%X", KeyPrefix)
	for _, line := range lines {
		if drop[stamp(line)] {
			continue
		}
		line = strings.ReplaceAll(line, KeyPrefix, "")
		line = strings.ReplaceAll(line, hexPrefix, "")
		out.WriteString(line)
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// stamp is the part of a line that all records of its event share, node aside.
func stamp(line string) string {
	_, rest, _ := strings.Cut(line, "msg=audit(")
	at, _, _ := strings.Cut(rest, ")")
	return at
}
