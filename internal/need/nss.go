package need

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// An account that no local file has, as Directory makes it.
const (
	DirectoryUser  = "carla"
	DirectoryUID   = 70001
	DirectoryGroup = "carlas"
	DirectoryGID   = 70002
)

// nssModules are sources of accounts beside the local files, each with what it
// reads. Debian has them in libnss-extrausers and libnss-systemd.
var nssModules = []struct {
	name, dir string
	files     map[string]string
}{
	{"extrausers", "/var/lib/extrausers", map[string]string{"passwd": "carla:x:70001:70002::/home/carla:/bin/sh\n", "group": "carlas:x:70002:\n", "shadow": ""}},
	{"systemd", "/etc/userdb", map[string]string{
		"carla.user": `{"userName":"carla","uid":70001,"gid":70002,"disposition":"regular"}`, "70001.user": `{"userName":"carla","uid":70001,"gid":70002,"disposition":"regular"}`,
		"carlas.group": `{"groupName":"carlas","gid":70002}`, "70002.group": `{"groupName":"carlas","gid":70002}`,
	}},
}

const inDirectory = "AUDITFLEET_TEST_DIRECTORY"

// Directory runs the calling test again as a child process, once for each installed
// module, in a mount namespace where nsswitch.conf names a module that knows one more
// account. It returns true in the child, which then does the test; in the parent it
// returns false.
func Directory(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inDirectory) != "" {
		return true
	}
	Root(t)
	unshare := Tool(t, "unshare")
	ran := false
	for _, m := range nssModules {
		libs, err := filepath.Glob("/lib*/*/libnss_" + m.name + ".so.2")
		more, err2 := filepath.Glob("/usr/lib*/libnss_" + m.name + ".so.2")
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if len(libs)+len(more) == 0 {
			continue
		}
		ran = true
		dir := t.TempDir()
		if err := os.MkdirAll(dir+"/data", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range m.files {
			if err := os.WriteFile(dir+"/data/"+name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(dir+"/nsswitch.conf", []byte("passwd: files "+m.name+"\ngroup: files "+m.name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		placeFor(t, m.name, m.dir)
		cmd := exec.Command(unshare, "-m", "sh", "-c", `mount --bind "$1/data" "$2" && mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf && shift 2 && exec "$@"`,
			"sh", dir, m.dir, os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.count=1")
		cmd.Env = append(os.Environ(), inDirectory+"="+m.name)
		out, err := cmd.CombinedOutput()
		switch {
		case err != nil || !strings.Contains(string(out), t.Name()):
			t.Errorf("with %s: %v\n%s", m.name, err, out)
		case strings.Contains(string(out), "--- SKIP"):
			Missing(t, fmt.Sprintf("with %s: %s", m.name, out))
		default:
			t.Logf("with %s: %s", m.name, out)
		}
	}
	if !ran {
		Missing(t, "no NSS module of accounts is installed beside files: apt-get install libnss-extrausers")
	}
	return false
}

// placeFor has the folder that a module reads be there until the test ends. Tests of several packages need it at the
// same time, and who removes it takes it from the others' namespaces, too. So each holds a shared lock, in whose file
// stands that a test made the folder, and the last one removes it.
func placeFor(t *testing.T, module, dir string) {
	t.Helper()
	lock, err := lockFile("/run/auditfleet-test-"+module+".lock", syscall.LOCK_SH, func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer lock.Close()
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			return
		}
		if made, err := os.ReadFile(lock.Name()); err == nil && len(made) > 0 {
			_ = os.Remove(dir) // it stays where somebody put something into it
		}
		_ = os.Remove(lock.Name())
	})
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
		if _, err := lock.WriteString("made by tests\n"); err != nil {
			t.Error(err)
		}
	case !errors.Is(err, fs.ErrExist):
		Missing(t, "no place for the accounts of "+module+": "+err.Error())
	}
}
