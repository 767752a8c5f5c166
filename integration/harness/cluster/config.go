package cluster

import (
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// element writes <name>text</name>.
func element(b *strings.Builder, name, text string) {
	fmt.Fprintf(b, "<%s>", name)
	_ = xml.EscapeText(b, []byte(text)) // a Builder does not fail
	fmt.Fprintf(b, "</%s>\n", name)
}

// elements writes a map in order.
func elements(b *strings.Builder, values map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		element(b, name, values[name])
	}
}

// users is the node's users.xml: profiles for machines that have little memory and much else to do, and two users.
func (n *Node) users() string {
	settings := map[string]string{
		"max_memory_usage": "500000000", "max_threads": "2", "load_balancing": "random",
		"background_pool_size": "2", "background_schedule_pool_size": "2", "log_queries": "0", "fsync_metadata": "0",
	}
	maps.Copy(settings, n.cluster.Shape.Settings)
	var b strings.Builder
	b.WriteString("<yandex><profiles><default>\n")
	elements(&b, settings)
	b.WriteString("</default><readonly>\n")
	elements(&b, settings)
	element(&b, "readonly", "2") // settings of a query may still be set
	b.WriteString("</readonly></profiles><quotas><default/></quotas><users>\n")
	for user, profile := range map[string]string{User: "default", Reader: "readonly"} {
		fmt.Fprintf(&b, "<%s>\n", user)
		element(&b, "password", Password)
		b.WriteString("<networks><ip>127.0.0.0/8</ip></networks>\n")
		element(&b, "profile", profile)
		element(&b, "quota", "default")
		fmt.Fprintf(&b, "</%s>\n", user)
	}
	b.WriteString("</users></yandex>\n")
	return b.String()
}

// config is the node's config.xml.
func (n *Node) config() string {
	c := n.cluster
	var b strings.Builder
	b.WriteString("<yandex><logger><level>information</level>\n")
	elements(&b, map[string]string{"log": n.log, "errorlog": n.log + ".errors", "size": "20M", "count": "2"})
	b.WriteString("</logger>\n")
	for name, port := range map[string]int{"tcp_port": nativePort, "http_port": httpPort, "interserver_http_port": interserverPort} {
		element(&b, name, fmt.Sprint(port))
	}
	for name, value := range map[string]string{
		"listen_host": n.Host, "interserver_http_host": n.Host,
		"path": n.data + "/", "tmp_path": n.data + "/tmp/", "user_files_path": n.data + "/user_files/", "format_schema_path": n.data + "/format_schemas/",
		"users_config": "users.xml", "default_profile": "default", "default_database": "default", "timezone": "UTC",
		"mark_cache_size": "16777216", "uncompressed_cache_size": "1048576", "max_concurrent_queries": "100", "max_connections": "1024",
		"mlock_executable": "false",
	} {
		element(&b, name, value)
	}
	if ca := c.Shape.CA; ca != nil {
		cert, key := ca.Issue(n.dir, func(t *x509.Certificate) { t.DNSNames, t.IPAddresses = nil, []net.IP{net.ParseIP(n.Host)} }, n.Host)
		element(&b, "tcp_port_secure", fmt.Sprint(securePort))
		b.WriteString("<openSSL><server>\n")
		elements(&b, map[string]string{"certificateFile": cert, "privateKeyFile": key, "caConfig": ca.File, "verificationMode": "none", "loadDefaultCAFile": "false", "disableProtocols": "sslv2,sslv3,tlsv1,tlsv1_1"})
		b.WriteString("</server></openSSL>\n")
	}
	b.WriteString("<merge_tree>\n")
	elements(&b, c.Shape.MergeTree)
	b.WriteString("</merge_tree><macros>\n")
	elements(&b, map[string]string{"shard": fmt.Sprint(n.Shard), "replica": n.Name})
	fmt.Fprintf(&b, "</macros><remote_servers><%s>\n", Name)
	for shard := range c.Shape.Shards {
		b.WriteString("<shard><internal_replication>true</internal_replication>\n")
		for _, peer := range c.Shard(shard + 1) {
			b.WriteString("<replica>\n")
			elements(&b, map[string]string{"host": peer.Host, "port": fmt.Sprint(nativePort), "user": User, "password": Password})
			b.WriteString("</replica>\n")
		}
		b.WriteString("</shard>\n")
	}
	fmt.Fprintf(&b, "</%s></remote_servers><zookeeper>\n", Name)
	for _, k := range c.Keepers {
		b.WriteString("<node>\n")
		elements(&b, map[string]string{"host": k.Host, "port": fmt.Sprint(clientPort)})
		b.WriteString("</node>\n")
	}
	element(&b, "session_timeout_ms", "15000")
	b.WriteString("</zookeeper><distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl></yandex>\n")
	return b.String()
}
