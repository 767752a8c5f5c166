package conf

// CollectorKeys are the names of the keys that only collector serve uses. One auditd.conf
// may serve both programs: each accepts the other's keys and warns that they have no
// effect.
var CollectorKeys = []string{
	// BEGIN names (made from collector/internal/cli/settings.go: go test ./collector/internal/cli -update)
	"store",
	"listen",
	"api",
	"api_group",
	"http",
	"node",
	"state_file",
	"max_connections",
	"frame_timeout",
	"max_in_flight",
	"max_in_flight_total",
	"max_open_bytes_per_host",
	"max_open_bytes",
	"max_open_events_per_host",
	"max_open_events",
	"max_open_age",
	"max_hosts",
	"max_new_names",
	"metric_hosts",
	"drain_timeout",
	"hosts_file",
	"disk_reserve",
	"max_days",
	"max_bytes",
	"log_level",
	// END names
}
