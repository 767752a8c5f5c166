package conf

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// verdict is a line, what the stock program of 3.0.9 says about it (recorded
// from runs of it), and what we say: an error that contains ours, or acceptance.
// Where the two differ, differs says why.
type verdict struct {
	line    string
	stock   bool
	ours    string
	differs string
}

const (
	no64    = "its 32-bit overflow is not worth copying"
	newer   = "a key of audit 4"
	refused = "it would not do what it says here"
	strict  = "it is a mistake that stock overlooks"
)

var auditdVerdicts = []verdict{
	{"local_events = YES", true, "", ""},
	{"local_events = maybe", false, "neither yes nor no", ""},
	{"write_logs = no", true, "", ""},
	{"write_logs = 1", false, "neither yes nor no", ""},
	{"log_file = audit.log", false, "not an absolute path", ""},
	{"log_file =  /x  y", false, `unexpected "y"`, ""},
	{"log_format = RaW", true, "", ""},
	{"log_format = nolog", true, "", ""},
	{"log_format = json", false, "none of raw, enriched", ""},
	{"log_group = 0", true, "", ""},
	{"log_group = root", true, "", ""},
	{"log_group = nosuchgroup", false, `no group "nosuchgroup"`, ""},
	{"priority_boost = 0", true, "", ""},
	{"priority_boost = 40", true, "", ""},
	{"priority_boost = -4", false, "is not a number", ""},
	{"priority_boost = 2147483648", false, "too large", ""},
	{"flush = data", true, "", ""},
	{"flush = INCREMENTAL_ASYNC", true, "", ""},
	{"flush = always", false, "none of none, incremental", ""},
	{"freq = 0", true, "", ""},
	{"freq = 2147483647", true, "", ""},
	{"freq = 2147483648", false, "too large", ""},
	{"num_logs = 0", true, "", ""},
	{"num_logs = 999", true, "", ""},
	{"num_logs = 1000", false, "at most 999", ""},
	{"num_logs = 0x5", false, "is not a number", ""},
	{"name_format = numeric", true, "", ""},
	{"name_format = bogus", false, "none of none, hostname", ""},
	{"name_format = user", false, "needs the name", ""},
	{"name = web1", true, "", ""},
	{"name = a b", false, `unexpected "b"`, ""},
	{"name =", false, "missing value", ""},
	{"max_log_file = 0", true, "", ""},
	{"max_log_file = 2147483648", true, "", ""},
	{"max_log_file = 18446744073709551616", false, "too large", ""},
	{"max_log_file = x", false, "is not a number", ""},
	{"max_log_file_action = rotate", true, "", ""},
	{"max_log_file_action = Keep_Logs", true, "", ""},
	{"max_log_file_action = email", false, "none of ignore", ""},
	{"max_log_file_action = exec /bin/true", false, "none of ignore", ""},
	{"verify_email = no", true, "", ""},
	{"action_mail_acct = ops", true, "", ""},
	{"action_mail_acct = a/b", false, "no address may have", ""},
	{"action_mail_acct = root@localhost", false, "a domain with a dot", ""},
	{"action_mail_acct = root@@x", false, "one @", ""},
	{"space_left = 99%", true, "", ""},
	{"space_left = 0%", false, "too small", ""},
	{"space_left = 100%", false, "at most 99", ""},
	{"space_left = %", false, "is not a number", ""},
	{"space_left = 5%%", true, "is not a number", strict},
	{"space_left = 40", false, "must be larger", ""},
	{"space_left = 0", false, "must be larger", ""},
	{"admin_space_left = 2%", true, "", ""},
	{"admin_space_left = 80", false, "must be larger", ""},
	{"space_left_action = email", true, "", ""},
	{"space_left_action = rotate", true, "", ""},
	{"space_left_action = exec /bin/true", true, "", ""},
	{"space_left_action = exec", false, "needs the path", ""},
	{"space_left_action = exec bin/true", false, "absolute path", ""},
	{"space_left_action = exec /nonexist", false, "no such file", ""},
	{"space_left_action = exec /bin/true x", true, `unexpected "x"`, strict},
	{"space_left_action = syslog x", true, `unexpected "x" after syslog`, strict},
	{"space_left_action = warn", false, "none of ignore", ""},
	{"space_left_action =", false, "missing value", ""},
	{"admin_space_left_action = halt", true, "", ""},
	{"disk_full_action = rotate", true, "", ""},
	{"disk_full_action = email", false, "none of ignore", ""},
	{"disk_error_action = exec /bin/true", true, "", ""},
	{"disk_error_action = rotate", false, "none of ignore", ""},
	{"disk_error_action = email", false, "none of ignore", ""},
	{"tcp_listen_port = 0", false, "too small", ""},
	{"tcp_listen_port = 65536", false, "too large", ""},
	{"tcp_listen_queue = 0", false, "too small", ""},
	{"tcp_listen_queue = 32767", true, "", ""},
	{"tcp_listen_queue = 100000", false, "too large", ""},
	{"tcp_max_per_addr = 0", false, "too small", ""},
	{"tcp_max_per_addr = 1024", true, "", ""},
	{"tcp_max_per_addr = 1025", false, "at most 1024", ""},
	{"use_libwrap = no", true, "", ""},
	{"tcp_client_ports = 1024-65535", true, "", ""},
	{"tcp_client_ports = 0-10", true, "", ""},
	{"tcp_client_ports = 0", true, "", ""},
	{"tcp_client_ports = 10-5", false, "reversed", ""},
	{"tcp_client_ports = 10 - 20", false, `unexpected "-"`, ""},
	{"tcp_client_ports = 10-", false, "two with a dash", ""},
	{"tcp_client_ports = -10", false, "two with a dash", ""},
	{"tcp_client_ports = 1-70000", false, "too large", ""},
	{"tcp_client_ports = 1-2-3", true, "two with a dash", strict},
	{"tcp_client_max_idle = 2147483647", true, "", ""},
	{"tcp_client_max_idle = 2147483648", false, "too large", ""},
	{"transport = tcp", true, "", ""},
	{"transport = krb5", true, "no Kerberos here", refused},
	{"transport = tls", false, "", newer},
	{"enable_krb5 = no", true, "", ""},
	{"enable_krb5 = yes", true, "no Kerberos here", refused},
	{"krb5_principal = x", true, "", ""},
	{"krb5_principal =", false, "", "a key without effect"},
	{"krb5_key_file = relative", true, "", ""},
	{"distribute_network = yes", true, "", ""},
	{"q_depth = 1", true, "", ""},
	{"q_depth = 99999", true, "", ""},
	{"q_depth = 100000", false, "at most 99999", ""},
	{"overflow_action = suspend", true, "", ""},
	{"overflow_action = email", false, "none of ignore", ""},
	{"overflow_action = exec /bin/true", false, "none of ignore", ""},
	{"max_restarts = 0", true, "", ""},
	{"max_restarts = 4294967295", false, "too large", ""},
	{"plugin_dir = relative", true, "not an absolute path", strict},
	{"end_of_event_timeout = 0", true, "", ""},
	{"end_of_event_timeout = 9999999999", true, "too large", no64},
	{"end_of_event_timeout = x", false, "is not a number", ""},
	{"report_interval = 5m", false, "", newer},
	{"report_interval = 5x", false, "with m, h, d or M", ""},
	{"tls_psk_file = /etc/audit/psk", false, "", newer},
	{"dispatcher = /sbin/audispd", true, "", ""},
	{"disp_qos = lossy", true, "", ""},
	{"num_logs\t=\t5", false, "", "tabs are no reason to refuse a file"},
	{"num_logs=5", false, "", "missing spaces are no reason to refuse a file"},
	{"bogus = 5", false, "unknown keyword", ""},
}

var remoteVerdicts = []verdict{
	{"remote_server = a,b", true, "", ""},
	{"remote_server = a b", false, "is two words", ""},
	{"remote_server =", false, "", "the shipped file has it; the caller judges"},
	{"port = 0", true, "", ""},
	{"port = 65535", true, "", ""},
	{"port = 65536", false, "too large", ""},
	{"port = any", false, "is not a number", ""},
	{"port = 6 0", false, `unexpected "0"`, ""},
	{"local_port = any", true, "", ""},
	{"local_port = 0", true, "", ""},
	{"local_port = 70000", false, "too large", ""},
	{"transport = TCP", true, "", ""},
	{"transport = krb5", true, "no Kerberos here", refused},
	{"transport = tls", false, "", newer},
	{"mode = Forward", true, "", ""},
	{"mode = later", false, "none of immediate, forward", ""},
	{"queue_file = relative", false, "not an absolute path", ""},
	{"queue_file = /nodir/x", true, "", ""},
	{"queue_depth = 1", true, "", ""},
	{"queue_depth = 0", false, "too small", ""},
	{"format = ascii", true, "", ""},
	{"format = binary", false, "none of managed, ascii", ""},
	{"mode = forward\nformat = ascii", false, "needs format = managed", ""},
	{"network_retry_time = 0", false, "too small", ""},
	{"network_retry_time = 2147483648", false, "too large", ""},
	{"max_tries_per_record = 0", false, "too small", ""},
	{"max_tries_per_record = 1", true, "", ""},
	{"max_tries_per_record = 99999999999", true, "too large", no64},
	{"max_time_per_record = 0", false, "too small", ""},
	{"heartbeat_timeout = 0", true, "", ""},
	{"heartbeat_timeout = 2147483648", false, "too large", ""},
	{"network_failure_action = warn_once_continue", true, "", ""},
	{"network_failure_action = exec /bin/true", true, "", ""},
	{"network_failure_action = reconnect", false, "none of ignore", ""},
	{"network_failure_action = exec", false, "needs the path", ""},
	{"network_failure_action = exec true", false, "absolute path", ""},
	{"network_failure_action = exec /nonexist", false, "no such file", ""},
	{"disk_low_action = halt", true, "", ""},
	{"disk_full_action = email", false, "none of ignore", ""},
	{"disk_error_action = reconnect", false, "none of ignore", ""},
	{"remote_ending_action = reconnect", true, "", ""},
	{"remote_ending_action = rotate", false, "none of ignore", ""},
	{"generic_error_action = single", true, "", ""},
	{"generic_warning_action = stop", true, "", ""},
	{"queue_error_action = exec /bin/true", true, "", ""},
	{"overflow_action = suspend", true, "", ""},
	{"overflow_action = stop", false, "none of ignore", ""},
	{"overflow_action = warn_once", false, "none of ignore", ""},
	{"overflow_action = exec /bin/true", false, "none of ignore", ""},
	{"startup_failure_action = exec /bin/true", true, "", ""},
	{"startup_failure_action = stop", false, "none of ignore", ""},
	{"startup_failure_action = reconnect", false, "none of ignore", ""},
	{"enable_krb5 = no", true, "", ""},
	{"enable_krb5 = yes", true, "no Kerberos here", refused},
	{"krb5_principal = x", true, "", ""},
	{"krb5_client_name = x", true, "", ""},
	{"krb5_key_file = /x", true, "", ""},
	{"tls_auth = psk", false, "", newer},
	{"bogus = 1", false, "unknown keyword", ""},
}

// check compares our verdict with the recorded ones.
func (v verdict) check(t *testing.T, err error) {
	t.Helper()
	if (err == nil) != (v.ours == "") || err != nil && !strings.Contains(err.Error(), v.ours) {
		t.Errorf("%q: %v, want %q", v.line, err, v.ours)
	}
	if v.stock != (err == nil) && v.differs == "" {
		t.Errorf("%q: stock accepts: %v, ours: %v, and no reason is given", v.line, v.stock, err)
	}
	if v.stock == (err == nil) && v.differs != "" {
		t.Errorf("%q: no difference to explain", v.line)
	}
}

const auditdBase = "local_events = no\nwrite_logs = yes\nspace_left = 75\nadmin_space_left = 50\n"

func TestAuditdKeys(t *testing.T) {
	tested := map[string]bool{}
	for _, v := range auditdVerdicts {
		a := DefaultAuditd()
		f, err := Parse("auditd.conf", []byte(auditdBase+v.line+"\n"), a.Schema())
		if err == nil {
			err = a.Validate(f)
		}
		v.check(t, err)
		tested[strings.ToLower(strings.Fields(strings.ReplaceAll(v.line, "=", " "))[0])] = true
	}
	for _, k := range daemonSchemas()[0] {
		if !tested[k.Name] && !strings.HasPrefix(k.Name, "tls_") {
			t.Errorf("%s has no row", k.Name)
		}
	}
}

func TestRemoteKeys(t *testing.T) {
	tested := map[string]bool{}
	for _, v := range remoteVerdicts {
		r := DefaultRemote()
		f, err := Parse("audisp-remote.conf", []byte(v.line+"\n"), r.Schema())
		if err == nil {
			err = r.Validate(f)
		}
		v.check(t, err)
		tested[strings.Fields(v.line)[0]] = true
	}
	for _, k := range daemonSchemas()[1] {
		if !tested[k.Name] && !strings.HasPrefix(k.Name, "tls_") {
			t.Errorf("%s has no row", k.Name)
		}
	}
}

// daemonSchemas returns the schemas of the two daemons' files.
func daemonSchemas() [2]Schema {
	a, r := DefaultAuditd(), DefaultRemote()
	return [2]Schema{a.Schema(), r.Schema()}
}

// The recorded verdicts of audisp-remote are what the installed one says: it
// ends with 6 over a bad file and 0 at the end of its empty input.
func TestStockRemoteVerdicts(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the stock program for each line")
	}
	need.Root(t)
	stock := need.Stock(t, "audisp-remote")
	dir := t.TempDir()
	path := filepath.Join(dir, "audisp-remote.conf")
	for _, v := range remoteVerdicts {
		if strings.HasPrefix(v.line, "max_tries_per_record = 9") {
			continue // 32-bit arithmetic of the day
		}
		base := "remote_server = 127.0.0.1\nport = 9\nnetwork_failure_action = stop\nqueue_file = " + dir + "/q\n"
		if err := os.WriteFile(path, []byte(base+v.line+"\n"), 0o640); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("unshare", "-mn", "sh", "-c",
			`mount --bind "$1" /etc/audit/audisp-remote.conf && exec timeout -k 1 5 "$2"`, "sh", path, stock)
		cmd.WaitDelay = 10 * time.Second
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != 6 && got != 0 {
			t.Errorf("%q: exit code %d", v.line, got)
		} else if (got == 0) != v.stock {
			t.Errorf("%q: stock's exit code is %d, recorded as accepted: %v", v.line, got, v.stock)
		}
	}
}
