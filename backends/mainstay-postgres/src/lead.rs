//! Who leads: the one row of the table `leader`.

use std::time::Duration;

use mainstay_core::Timestamp;
use tokio_postgres::types::Type;

use crate::{fault::Trouble, link::Link, options::Options, schema, step::Param};

/// What a try to lead came to.
pub(crate) enum Try {
    /// With this epoch; and what time it is there.
    Leads(u64, Timestamp),
    /// This one leads, with this epoch.
    Follows(String, u64),
    /// Another build has brought the schema to this format: this one can neither lead nor follow any more.
    Outdated(i32),
}

/// The session of who leads, so that others see when it has ended. Behind a pooler it says nothing.
const SESSION: &str = "backend_pid = case when $3 then pg_backend_pid() end, \
     backend_start = case when $3 then (select backend_start from pg_stat_activity where pid = pg_backend_pid()) end";

fn ms(duration: Duration) -> Param {
    Param::new(duration.as_millis() as i64 as f64, Type::FLOAT8)
}

/// Leads, if nobody does: if the last one's time is over, or its session has ended; and if the schema still has the
/// format of this build.
pub(crate) async fn take(link: &Link, options: &Options) -> Result<Try, Trouble> {
    let sql = format!(
        "update {{s}}.leader set epoch = epoch + 1, owner = $1, \
           expires = clock_timestamp() + $2 * interval '1 millisecond', {SESSION} \
         where expires < clock_timestamp() or (backend_pid is not null and not exists ( \
           select 1 from pg_stat_activity a where a.pid = leader.backend_pid \
           and (a.backend_start is null or a.backend_start = leader.backend_start))) \
         returning epoch, (extract(epoch from clock_timestamp()) * 1000)::bigint"
    );
    let name = Param::new(options.name.clone(), Type::TEXT);
    let params = vec![name, ms(options.lease), Param::new(options.listen, Type::BOOL)];
    let taken = link.query(&sql, params).await?;
    // Asked afterwards: a migration has either been before, and is seen, or it takes the lead away again.
    let sql = "select coalesce(owner, 'nobody'), epoch, version from {s}.leader, {s}.format";
    let rows = link.query(sql, vec![]).await?;
    let (owner, epoch, format) = rows.first().map_or_else(
        || (String::new(), 0, schema::FORMAT),
        |row| (row.get(0), row.get::<_, i64>(1), row.get(2)),
    );
    match taken.first() {
        Some(row) if format == schema::FORMAT => {
            Ok(Try::Leads(row.get::<_, i64>(0) as u64, Timestamp(row.get(1))))
        }
        None if format == schema::FORMAT => Ok(Try::Follows(owner, epoch as u64)),
        Some(row) => release(link, row.get::<_, i64>(0) as u64).await.map(|()| Try::Outdated(format)),
        None => Ok(Try::Outdated(format)),
    }
}

/// Goes on leading; answers what time it is there. `None`: another leads.
pub(crate) async fn renew(link: &Link, options: &Options, epoch: u64) -> Result<Option<Timestamp>, Trouble> {
    let sql = format!(
        "update {{s}}.leader set expires = clock_timestamp() + $2 * interval '1 millisecond', {SESSION} \
         where epoch = $1 returning (extract(epoch from clock_timestamp()) * 1000)::bigint"
    );
    let params = vec![Param::i64(epoch), ms(options.lease), Param::new(options.listen, Type::BOOL)];
    Ok(link.query(&sql, params).await?.first().map(|row| Timestamp(row.get(0))))
}

/// Another may lead at once.
pub(crate) async fn release(link: &Link, epoch: u64) -> Result<(), Trouble> {
    let sql =
        "update {s}.leader set expires = '-infinity', owner = null, backend_pid = null where epoch = $1";
    link.query(sql, vec![Param::i64(epoch)]).await.map(drop)
}
