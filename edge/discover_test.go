package edge_test

import "testing"

// What is announced is what is listened on, with and without TLS, at the ports that
// the system gave, and no WebSocket.
func TestServices(t *testing.T) {
	s, a := newSite(t, ""), newAuthority(t)
	crt, key := a.server()
	s.mqtt = "listen_tls = [\"127.0.0.1:0\"]\nlisten_ws = [\"127.0.0.1:0\"]\nlisten_wss = [\"127.0.0.1:0\"]\nmdns = true\n" +
		"tls_cert_file = \"" + s.file("crt", crt) + "\"\ntls_key_file = \"" + s.file("key", key) + "\"\n"
	s.start()
	all := s.Services()
	if len(all) != 2 {
		t.Fatalf("announced: %v", all)
	}
	for i, want := range []string{"_mqtt._tcp", "_secure-mqtt._tcp"} {
		if got := all[i]; got.Type != want || got.Address.String() != s.Door().Addrs()[i].String() || got.Address.Port() == 0 {
			t.Errorf("announced %v, want %s at %v", got, want, s.Door().Addrs()[i])
		}
	}
}
