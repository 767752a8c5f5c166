package sink

import (
	"time"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

// Settings are the values of one sink's file.
type Settings struct {
	Name   string // the file's, without .conf
	Active bool
	Type   string

	Severity   string // the least that is sent
	Conditions []string
	Match      []string // LABEL=PATTERN
	Resolved   bool

	Timeout      time.Duration
	QueueNotices int
	QueueBytes   int64

	URL          string
	CA           string
	Cert, Key    string
	User         string
	PasswordFile string
	TokenFile    string
	SecretFile   string
	Resend       time.Duration
	GeneratorURL string

	Server   string // HOST:PORT
	TLS      string
	From     string
	To       []string
	Program  string
	Args     []string
	Facility string
	Socket   string

	// wrong is why the file can't be used; notices wait until it is repaired.
	wrong error
}

// The kinds of sinks.
const (
	kindAlertmanager = "alertmanager"
	kindWebhook      = "webhook"
	kindMail         = "mail"
	kindExec         = "exec"
	kindSyslog       = "syslog"
)

// Values of tls.
const (
	tlsNone     = "no"
	tlsStart    = "starttls"
	tlsImplicit = "yes"
)

// Table returns the settings of a sink's file, which store their values in s.
func (s *Settings) Table() settings.Table {
	all := func(list ...settings.Setting) []settings.Setting {
		for i := range list {
			list[i].In = settings.FileOnly
		}
		return list
	}
	list := func(name string, to *[]string) conf.Key {
		k := conf.List(name, to)
		k.Empty = func() { *to = nil }
		return k
	}
	return settings.Table{
		{Title: "Every sink", List: all(
			settings.Setting{Key: conf.YesNo("active", &s.Active), Default: "yes", Doc: "Whether the sink is used; what waits for it stays where it is."},
			settings.Setting{Key: conf.Enum("type", &s.Type, kindAlertmanager, kindWebhook, kindMail, kindExec, kindSyslog), Doc: "Where alerts go."},
			settings.Setting{Key: conf.Enum("severity", &s.Severity, Info, Warning, Critical), Default: Info, Doc: "The least severity that is sent."},
			settings.Setting{Key: list("conditions", &s.Conditions), Unset: "all", Arg: "NAME[,NAME]", Example: "loss,serial-gaps", Doc: "Conditions that are sent, with * and ?."},
			settings.Setting{Key: list("match", &s.Match), Unset: "all", Arg: "LABEL=PATTERN[,…]", Example: "host=db*", Doc: "Labels that an alert must have, with * and ? in the pattern; all of them."},
			settings.Setting{Key: conf.YesNo("resolved", &s.Resolved), Default: "yes", Doc: "Whether it is said that an alert is over.\nAn alertmanager is always told."},
			settings.Setting{Key: conf.Duration("timeout", &s.Timeout, time.Second, 5*time.Minute), Default: "15s", Arg: "DURATION", Doc: "Time that one delivery may take."},
			settings.Setting{Key: conf.Int("queue_notices", &s.QueueNotices, 1, 100_000), Default: 10_000, Arg: "N", Doc: "Notices that may wait while the sink takes none.\nBeyond it those go that a newer one of their alert follows, then the least severe, the oldest first; they are counted (DAEMON_ERR op=alert-dropped)."},
			settings.Setting{Key: conf.Bytes("queue_bytes", &s.QueueBytes, 64<<10, 64<<20), Default: "16M", Arg: "SIZE", Doc: "Their size, likewise."},
		)},
		{Title: "alertmanager and webhook", List: all(
			settings.Setting{Key: conf.Word("url", &s.URL), Arg: "URL", Example: "https://alertmanager.example.net:9093", Doc: "Where to send: an Alertmanager's address without /api/v2/alerts, or a webhook's whole URL.\nEach Alertmanager of a cluster is a sink."},
			settings.Setting{Key: conf.Word("user", &s.User), Arg: "NAME", Doc: "User name, for basic authentication or of the mail server."},
			settings.Setting{Key: conf.Path("password_file", &s.PasswordFile), Arg: "FILE", Doc: "File with the user's password, which nobody but its owner may read (chmod 0600).\nThis and the other files are read at each delivery, so they can be replaced at any time."},
			settings.Setting{Key: conf.Path("token_file", &s.TokenFile), Arg: "FILE", Doc: "File with a bearer token, likewise."},
			settings.Setting{Key: conf.Path("secret_file", &s.SecretFile), Arg: "FILE", Doc: "File with the webhook's secret of 24 bytes or more, or whsec_ and base64, likewise.\nSeveral lines are several secrets, while they are changed: a message is signed with each."},
			settings.Setting{Key: conf.Duration("resend", &s.Resend, time.Second, time.Hour), Default: "1m", Arg: "DURATION", Doc: "How often an alertmanager is told again what fires; untold four times, it takes an alert for over."},
			settings.Setting{Key: conf.Word("generator_url", &s.GeneratorURL), Arg: "URL", Doc: "Link that an alertmanager shows with the alerts."},
		)},
		{Title: "TLS", List: all(
			settings.Setting{Key: conf.Path("ca", &s.CA), Unset: "the system's", Arg: "FILE", Doc: "Certificates of the CAs that the other end's certificate may be of, in PEM."},
			settings.Setting{Key: conf.Path("cert", &s.Cert), Arg: "FILE", Doc: "Client certificate."},
			settings.Setting{Key: conf.Path("key", &s.Key), Arg: "FILE", Doc: "Its key, which nobody but its owner may read."},
		)},
		{Title: "mail and syslog", List: all(
			settings.Setting{Key: conf.Word("server", &s.Server), Arg: "HOST:PORT", Example: "mail.example.net:587", Doc: "Mail server; or a syslog server that takes RFC 5424 over TCP, where it is not the host's own."},
			settings.Setting{Key: conf.Enum("tls", &s.TLS, tlsStart, tlsImplicit, tlsNone), Unset: "starttls for mail, yes for syslog", Doc: "yes begins with TLS, starttls changes to it, no is clear text.\nMail in clear text, and passwords, go to this machine only (localhost)."},
			settings.Setting{Key: conf.Word("from", &s.From), Arg: "ADDRESS", Example: "audit@example.net", Doc: "Sender of mail."},
			settings.Setting{Key: list("to", &s.To), Arg: "ADDRESS[,ADDRESS]", Example: "soc@example.net", Doc: "Recipients of mail."},
			settings.Setting{Key: conf.Word("facility", &s.Facility), Default: "daemon", Arg: "FACILITY", Doc: "Facility of syslog messages."},
			settings.Setting{Key: conf.Path("socket", &s.Socket), Unset: "/dev/log", Arg: "SOCKET", Doc: "Socket of the host's syslog."},
		)},
		{Title: "exec", List: all(
			settings.Setting{Key: conf.Path("program", &s.Program), Arg: "FILE", Example: "/usr/local/sbin/page", Doc: "Program that gets a group of alerts as JSON on its standard input, as a webhook does.\nIt runs as the collector's user, without a shell or the collector's environment, and is killed with its process group after timeout.\nExit status 0: taken; 65: refused for good; another: tried again."},
			settings.Setting{Key: list("args", &s.Args), Arg: "WORD[,WORD]", Doc: "Its arguments, which everybody on the machine can see."},
		)},
	}
}

// onlyOf says which keys belong to which types; others belong to all.
var onlyOf = map[string][]string{
	"url":  {kindAlertmanager, kindWebhook},
	"user": {kindAlertmanager, kindWebhook, kindMail}, "password_file": {kindAlertmanager, kindWebhook, kindMail},
	"token_file": {kindAlertmanager, kindWebhook}, "secret_file": {kindWebhook},
	"resend": {kindAlertmanager}, "generator_url": {kindAlertmanager},
	"ca":   {kindAlertmanager, kindWebhook, kindMail, kindSyslog},
	"cert": {kindAlertmanager, kindWebhook, kindMail, kindSyslog}, "key": {kindAlertmanager, kindWebhook, kindMail, kindSyslog},
	"server": {kindMail, kindSyslog}, "tls": {kindMail, kindSyslog},
	"from": {kindMail}, "to": {kindMail}, "facility": {kindSyslog}, "socket": {kindSyslog},
	"program": {kindExec}, "args": {kindExec},
}
