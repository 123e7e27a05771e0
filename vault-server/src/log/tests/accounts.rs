//! Streams in several storage accounts.

use super::*;
use crate::log::error::{AdminError, StreamFault};
use crate::log::vault::Absent;
use crate::storage::accounts::Accounts;
use crate::storage::{LeaseTarget, StorageError};

/// A vault on two accounts, led; and the accounts, the main one first.
async fn led() -> (Vault, [Arc<MemoryStorage>; 2]) {
    let env = Env::controlled(1);
    let accounts = [(); 2].map(|()| Arc::new(MemoryStorage::new(env.clone())));
    let [one, two] = accounts.clone();
    let storage: Arc<dyn Storage> =
        Arc::new(Accounts::new(vec![("one".to_owned(), one as _), ("two".to_owned(), two as _)]));
    let options = Options { accounts: vec!["one".to_owned(), "two".to_owned()], ..Options::new(PATIENCE) };
    let (vault, reign_over) = Vault::new(storage, env, Prefix::new("mv-").unwrap(), options);
    let candidacy = Candidacy { endpoint: "http://a".to_owned(), vault_uid: None };
    let mut election = Election::new(vault.clone(), reign_over, candidacy);
    tokio::spawn(async move { election.run(&CancellationToken::new()).await });
    vault.until_led(PATIENCE).await;
    (vault, accounts)
}

async fn create(vault: &Vault, name: &str, account: Option<&str>) -> Result<Arc<Stream>, AdminError> {
    let settings = SettingsPatch { account: account.map(str::to_owned), ..SettingsPatch::default() };
    Ok(vault.create(&vault.name(name).unwrap(), settings).await?.1)
}

#[tokio::test(start_paused = true)]
async fn a_stream_lives_where_it_was_made() {
    let (vault, [one, two]) = led().await;
    for (name, account) in [("here", None), ("there", Some("two"))] {
        let stream = create(&vault, name, account).await.unwrap();
        append(&stream, name, 10).await.unwrap();
        assert_eq!(labels(&stream).await.len(), 1);
        assert_eq!(stream.meta().settings.account.as_deref(), account.or(Some("one")));
    }
    let holds = async |storage: &MemoryStorage, name: &str| {
        storage.list_containers("mv-").await.unwrap().iter().any(|entry| entry.name.as_str() == name)
    };
    assert!(holds(&one, "mv-here").await && !holds(&one, "mv-there").await);
    assert!(!holds(&two, "mv-here").await && holds(&two, "mv-there").await);

    let unknown = create(&vault, "nowhere", Some("three")).await.unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "the account `three` is not one of those that this server uses (one, two)"
    );
    assert!(matches!(create(&vault, "there", Some("one")).await, Err(AdminError::OtherSettings(_))));
    assert!(create(&vault, "there", None).await.is_ok());
    let moved = SettingsPatch { account: Some("one".to_owned()), ..SettingsPatch::default() };
    let refused = vault.change(&vault.name("there").unwrap(), moved).await.unwrap_err();
    assert!(matches!(refused, AdminError::OtherSettings(_)), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_name_in_two_accounts_holds_the_stream_back_until_one_is_gone() {
    let (vault, [one, _]) = led().await;
    let stream = create(&vault, "there", Some("two")).await.unwrap();
    append(&stream, "a", 10).await.unwrap();
    let other = create(&vault, "other", None).await.unwrap();
    let container = vault.context.prefix.container(stream.name());
    one.create_container(&container, &stream.meta().to_metadata()).await.unwrap();

    vault.refresh(Absent::IsMissing).await.unwrap();
    let refused = append(&stream, "b", 10).await.unwrap_err();
    let AppendError::Unusable(Unusable::Fault(StreamFault::TwoAccounts(accounts))) = refused else {
        panic!("{refused}")
    };
    assert_eq!(accounts, "`one` and `two`");
    assert_eq!(stream.status().condition, Condition::TwoAccounts);
    append(&other, "c", 10).await.unwrap();

    let target = LeaseTarget::Container(container.clone());
    let lease = one.acquire_lease(&target, Duration::from_secs(15)).await.unwrap();
    one.delete_container(&container, &lease).await.unwrap();
    let term = vault.term().unwrap();
    vault.refresh(Absent::IsMissing).await.unwrap();
    // What was on its way when it was held back lands nowhere: it has the fence of the last term.
    let env = &vault.context.env;
    let next = async {
        while vault.term().is_none_or(|now| now == term) {
            env.clock.sleep(Duration::from_millis(10)).await;
        }
    };
    env.timeout(PATIENCE, next).await.expect("another term begins");
    assert!(vault.term().unwrap() > term);
    assert_eq!(append(&stream, "b", 10).await.unwrap().first_offset, Offset(1));
    assert_eq!(one.container_metadata(&container).await, Err(StorageError::NotFound));
}
