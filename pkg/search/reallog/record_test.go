package reallog

import (
	"bytes"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if Main() {
		return
	}
	os.Exit(m.Run())
}

// TestRecord checks that the log holds what the workload is there for; with
// AUDITFLEET_REALLOG_DIR it is also left in that folder.
func TestRecord(t *testing.T) {
	if testing.Short() {
		t.Skip("records from the kernel")
	}
	for name, cfg := range map[string]Config{
		"raw":      {},
		"enriched": {Enriched: true},
		"node":     {Enriched: true, Node: "web1"},
	} {
		t.Run(name, func(t *testing.T) {
			log := Record(t, cfg)
			for _, want := range []string{
				"type=SYSCALL ", "type=PATH ", "type=CWD ", "type=EXECVE ", "type=SOCKADDR ", "type=PROCTITLE ",
				"type=OBJ_PID ", "type=CAPSET ", "type=MQ_OPEN ", "type=CONFIG_CHANGE ", "type=DAEMON_START ",
				"type=USER_AUTH ", "type=ANOM_ABEND ", "type=SECCOMP ", "type=LOGIN ",
				`key="opens"`, "key=6E616D6573017365636F6E64206B6579", "exit=-13", "exit=-2",
			} {
				if !bytes.Contains(log, []byte(want)) {
					t.Errorf("the log has no %q", want)
				}
			}
			if got := bytes.Contains(log, []byte{0x1d}); got != cfg.Enriched {
				t.Errorf("enriched tail: %v, want %v", got, cfg.Enriched)
			}
			if dir := os.Getenv("AUDITFLEET_REALLOG_DIR"); dir != "" {
				if err := os.WriteFile(dir+"/"+name+".log", log, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
