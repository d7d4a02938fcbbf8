//! Certificates: the right one, and wrong ones.

use std::{fs, net::TcpListener, path::Path, process::Command};

use mainstay_core::{ErrorKind, Store, id::JobIds};
use mainstay_postgres::{Options, PostgresStore};
use mainstay_testkit::cluster::{Cluster, USER};

use crate::{
    hands::{claim, enqueue},
    harness::Place,
};

fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let done = done.expect("openssl is needed for this test (it comes with Debian's postgresql)");
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An authority, and what it says of `localhost`.
fn authority(folder: &Path, name: &str) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 {key} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"));
    openssl(folder, &format!("req {key} -keyout {name}-server.key -out {name}.csr -subj /CN=localhost"));
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let files = format!("-in {name}.csr -CA {name}.pem -CAkey {name}.key -out {name}-server.pem");
    openssl(folder, &format!("x509 -req {files} -CAcreateserial -days 2 -extfile names"));
}

#[tokio::test]
async fn only_a_certificate_of_the_authority_and_for_the_host_is_accepted() {
    // Where the server can read, whatever the folder for temporary files allows.
    let folder = Cluster::shared().expect("the shared cluster").folder().join("certificates");
    fs::create_dir(&folder).unwrap();
    Cluster::give(&folder);
    for name in ["right", "wrong"] {
        authority(&folder, name);
    }
    let (certificate, key) = (folder.join("right-server.pem"), folder.join("right-server.key"));
    Cluster::give(&key);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = Cluster::start(&format!(
        "-c ssl=on -c ssl_cert_file={} -c ssl_key_file={} -c listen_addresses=127.0.0.1 -c port={port}",
        certificate.display(),
        key.display()
    ));
    let place = Place::new();
    let options = |host: &str, authority: &str| -> Options {
        // A path with what a URL has to hide.
        let file = folder.join(format!("{authority} of all.pem"));
        fs::copy(folder.join(format!("{authority}.pem")), &file).unwrap();
        let file = file.display().to_string().replace(' ', "%20");
        let more = format!("&sslmode=verify-full&sslrootcert={file}");
        place.options_at(&format!("postgres://{USER}@{host}:{port}/postgres"), &more)
    };
    let store = PostgresStore::open(options("localhost", "right")).unwrap();
    let mut ids = JobIds::default();
    enqueue(&store, &mut ids).await;
    assert_eq!(claim(&store).await.len(), 1);
    let plain = "select count(*) from pg_stat_ssl s join pg_stat_activity a using (pid) \
                 where a.application_name = 'mainstay' and not s.ssl";
    let psql = |sql: &str| {
        let mut command = Cluster::command("psql");
        command.args(["-X", "-At", "-U", USER, "-d", "postgres", "-p", &port.to_string(), "-c", sql, "-h"]);
        let done = command.arg(cluster.folder()).output().unwrap();
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    assert_eq!(psql(plain), "0");
    for (host, authority) in [("localhost", "wrong"), ("127.0.0.1", "right")] {
        let refused = PostgresStore::open(options(host, authority)).err().expect("not trusted");
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        assert!(refused.to_string().contains("certificate"), "{refused}");
    }
    store.close(std::time::Duration::from_secs(5)).await.unwrap();
}
