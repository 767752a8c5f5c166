package need

import (
	"os"
	"path/filepath"
	"testing"
)

// Newest returns the path of a tool of audit 4.2.2, which whoever runs the tests has
// built: AUDIT4 names the folder with sbin/ausearch and sbin/aureport, or the folder with
// the tools themselves. Without it the test is skipped, also where no other test may be:
// no distribution has that version yet.
func Newest(t testing.TB, tool string) string {
	t.Helper()
	dir := os.Getenv("AUDIT4")
	if dir == "" {
		t.Skip("no audit 4.2.2 to compare with: AUDIT4=FOLDER names where it was built")
	}
	for _, path := range []string{filepath.Join(dir, "sbin", tool), filepath.Join(dir, tool)} {
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	t.Fatalf("AUDIT4=%s: there is no %s in it, nor in its sbin", dir, tool)
	return ""
}

// Logs returns the logs in the folder that AUDITFLEET_LOGS names, by the name of their
// files: those of the caller, to compare on beside the tests' own. There are none where it
// is not set.
func Logs(t testing.TB) map[string]string {
	t.Helper()
	logs := map[string]string{}
	dir := os.Getenv("AUDITFLEET_LOGS")
	if dir == "" {
		return logs
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("AUDITFLEET_LOGS=%s: no *.log there (%v)", dir, err)
	}
	for _, path := range paths {
		logs[filepath.Base(path)] = path
	}
	return logs
}
